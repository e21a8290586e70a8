"""Up to buckets and down from them, on S3, GCS and Azure servers; down from a Hugging Face Hub."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from huggingface_hub import HfFileSystem

from tests.integration.data.conftest import Bring
from tests.integration.data.hub import REPOSITORY, TOKEN, serve_dataset, use_hub
from tests.integration.data.troubled_web import TroubledWeb
from tests.integration.servers import Server
from trainer.data.fetch import upload
from trainer.data.fetch.report import Report
from trainer.errors import UserError

# aiohttp says so to gcsfs and adlfs, which send whole parts.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

MIB = 2**20
FILES = {
    "a.txt": b"text",
    "sub/deep/b c&d.txt": b"nested",
    "sub/empty": b"",
    "large.bin": random.Random(3).randbytes(5 * MIB + 5),
}
_numbers = itertools.count()


@pytest.fixture(params=["s3", "gcs", "azure"])
def bucket(
    request: pytest.FixtureRequest, start_server: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> str:
    """URL of an empty folder of each kind of bucket."""
    server = start_server(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    # Several parts without megabytes for each.
    monkeypatch.setattr(upload, "PART_BYTES", 5 * MIB)
    return f"{server.url}/fetch/{next(_numbers)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in {**FILES, ".hidden": b"x", "SHA256SUMS": b"stale"}.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(content)
    return tmp_path / "source"


def actions(report: Report) -> dict[str, str]:
    return {outcome.name: outcome.action for outcome in report.files}


def files_below(path: Path) -> dict[str, bytes]:
    found = (file for file in path.rglob("*") if file.is_file() and ".fetch" not in file.parts)
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}


def everything(action: str) -> dict[str, str]:
    return dict.fromkeys(FILES, action)


def test_a_folder_goes_up_and_comes_down_equal(bucket: str, bring: Bring, folder: Path, tmp_path: Path) -> None:
    up = bring(str(folder), output=bucket)
    assert not up.failed, up.as_text()
    assert (actions(up), up.exit_code, up.checksums) == (everything("fetched"), 0, f"{bucket}/SHA256SUMS")
    down = bring(bucket)
    assert actions(down) == everything("fetched")
    came = files_below(tmp_path / "out")
    sums = came.pop("SHA256SUMS").decode()
    assert came == FILES
    assert sums == "".join(f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}\n" for name in sorted(FILES))
    assert actions(bring(bucket)) == everything("skipped")
    assert actions(bring(f"{bucket}/sub/deep/b c&d.txt", output=str(tmp_path / "one"))) == {"b c&d.txt": "fetched"}


def test_what_is_in_the_bucket_is_not_sent_again(bucket: str, bring: Bring, folder: Path) -> None:
    assert actions(bring(str(folder), output=bucket, dry_run=True)) == everything("fetched")
    bring(str(folder), output=bucket)
    assert actions(bring(str(folder), output=bucket, dry_run=True)) == everything("skipped")
    assert actions(bring(str(folder), output=bucket)) == everything("skipped")
    fs, path = fsspec.url_to_fs(bucket)
    fs.rm_file(f"{path}/SHA256SUMS")  # as after an upload that was interrupted: the store's own hashes have to do
    assert actions(bring(str(folder), output=bucket)) == everything("skipped")
    changed = bytes([FILES["a.txt"][0] ^ 1]) + FILES["a.txt"][1:]
    (folder / "a.txt").write_bytes(changed)
    assert actions(bring(str(folder), output=bucket, compare="size")) == everything("skipped")
    assert actions(bring(str(folder), output=bucket)) == {**everything("skipped"), "a.txt": "replaced"}
    fs.invalidate_cache()
    assert fs.cat_file(f"{path}/a.txt") == changed
    assert hashlib.sha256(changed).hexdigest() in fs.cat_file(f"{path}/SHA256SUMS").decode()


def test_an_object_that_changed_is_fetched_again(bucket: str, bring: Bring, folder: Path, tmp_path: Path) -> None:
    bring(str(folder), output=bucket)
    bring(bucket, exclude=["SHA256SUMS"])
    fs, path = fsspec.url_to_fs(bucket)
    fs.rm_file(f"{path}/SHA256SUMS")
    fs.pipe_file(f"{path}/a.txt", b"TEXT")
    assert actions(bring(bucket)) == {**everything("skipped"), "a.txt": "replaced"}
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"TEXT"


def test_content_that_is_not_what_the_sums_say_is_refused(
    bucket: str, bring: Bring, folder: Path, tmp_path: Path
) -> None:
    bring(str(folder), output=bucket)
    fs, path = fsspec.url_to_fs(bucket)
    fs.pipe_file(f"{path}/a.txt", b"TEXT")
    report = bring(bucket, on_error="skip")
    assert {outcome.name: outcome.problem for outcome in report.failed} == {"a.txt": "checksum"}
    assert not (tmp_path / "out" / "a.txt").exists()


def test_a_bucket_that_is_not_there_is_named(bucket: str, bring: Bring, folder: Path) -> None:
    scheme = bucket.split(":")[0]
    with pytest.raises(UserError, match=f"{scheme}://no-such-bucket/x"):
        bring(str(folder), output=f"{scheme}://no-such-bucket/x", retry_seconds=1)
    with pytest.raises(UserError, match=f"{scheme}://no-such-bucket/x"):
        bring(f"{scheme}://no-such-bucket/x", retry_seconds=1)
    with pytest.raises(UserError, match="nothing"):
        bring(f"{bucket}/nothing")
    with pytest.raises(UserError, match="not on this machine"):
        bring(bucket, output=f"{bucket}-copy")


def test_targets_that_take_no_files_are_refused(bring: Bring, folder: Path) -> None:
    for output in ("https://h/x", "hf://datasets/a/b"):
        with pytest.raises(UserError, match="cannot be brought there"):
            bring(str(folder), output=output)


@pytest.fixture
def hub(web: TroubledWeb, monkeypatch: pytest.MonkeyPatch) -> TroubledWeb:
    use_hub(web, monkeypatch)
    return web


def test_a_dataset_comes_from_the_hub_at_one_commit(hub: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    files = {"README.md": b"# Texts", "data/train-0.parquet": random.Random(1).randbytes(300_000), "data/b.txt": b"b"}
    serve_dataset(hub, files, commit="1" * 40)
    assert bring(f"hf://datasets/{REPOSITORY}").exit_code == 0
    came = files_below(tmp_path / "out")
    del came["SHA256SUMS"]
    assert came == files
    content = f"/datasets/{REPOSITORY}/resolve/{'1' * 40}/data/b.txt"
    assert [seen.headers["authorization"] for seen in hub.requests_of(content)] == [f"Bearer {TOKEN}"]
    serve_dataset(hub, {**files, "data/b.txt": b"B"}, commit="2" * 40)
    HfFileSystem.clear_instance_cache()  # a new process
    assert actions(bring(f"hf://datasets/{REPOSITORY}/data")) == {"train-0.parquet": "fetched", "b.txt": "fetched"}
    assert actions(bring(f"hf://datasets/{REPOSITORY}")) == {
        "README.md": "skipped",
        "data/train-0.parquet": "skipped",
        "data/b.txt": "replaced",
    }
    assert list(actions(bring(f"hf://datasets/{REPOSITORY}/data/b.txt"))) == ["b.txt"]


def test_a_large_file_of_the_hub_must_have_its_hash(hub: TroubledWeb, bring: Bring, tmp_path: Path) -> None:
    serve_dataset(hub, {"x.bin": bytes(5000)}, commit="1" * 40)
    hub.files[f"/datasets/{REPOSITORY}/resolve/{'1' * 40}/x.bin"] = bytes(4999) + b"x"
    report = bring(f"hf://datasets/{REPOSITORY}")
    assert (report.exit_code, report.files[0].problem) == (2, "checksum")
    assert files_below(tmp_path / "out") == {}
    with pytest.raises(UserError, match="someone/nothing"):
        bring("hf://datasets/someone/nothing")
