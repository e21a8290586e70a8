"""What a user or an operator may get wrong, and what fails under a save: each an error that says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.integration.checkpoint.conftest import url_of
from tests.integration.checkpoint.helpers import claim, flip_bit, load, make_snapshot, make_state, overwrite, same, save
from tests.integration.limits import file_limit
from tests.integration.servers import Server
from trainer.checkpoint.attempts import read_lineage
from trainer.checkpoint.layout import read_checkpoints
from trainer.checkpoint.load import find_checkpoint, load_checkpoint, read_progress
from trainer.checkpoint.local import LocalCopies
from trainer.checkpoint.manage import list_checkpoints, show_checkpoint
from trainer.checkpoint.references import resolve_url
from trainer.checkpoint.save import Saver
from trainer.checkpoint.store import Store, open_run, open_store
from trainer.checkpoint.tensors import load_model_tensors
from trainer.errors import UserError


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_a_bucket_that_does_not_exist(
    kind: str, start_server: Callable[[str], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of(kind, start_server, tmp_path, monkeypatch).replace("://bucket/", "://no-such-bucket/")
    run = open_run(url, "tiny")
    with pytest.raises(UserError, match="bucket 'no-such-bucket' does not exist"):
        find_checkpoint(run)
    with pytest.raises(UserError, match="bucket 'no-such-bucket' does not exist"):
        run.write_once("attempts/a0001.json", b"{}")


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_refused_credentials(
    kind: str, start_server: Callable[[str], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of(kind, start_server, tmp_path, monkeypatch)
    wrong = {"AWS_SECRET_ACCESS_KEY": "not-the-secret-key"}  # pragma: allowlist secret
    if kind == "azure":
        right = start_server(kind).environment["AZURE_STORAGE_CONNECTION_STRING"]
        wrong = {"AZURE_STORAGE_CONNECTION_STRING": right.replace("AccountKey=Eby8", "AccountKey=Abc8")}
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    run = open_run(url, "tiny")
    with pytest.raises(UserError, match="access refused") as caught:
        claim(run)
    assert not any(value in str(caught.value) for value in wrong.values())


def test_an_unknown_kind_of_store_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"(?s)s4://key.*unknown kind of store.*s3://.*abfs://") as caught:
        open_store("s4://user:secret@key/runs?sig=secret")  # pragma: allowlist secret
    assert "secret" not in str(caught.value)


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"file/tiny.*Not a directory"):
        claim(open_run(str(tmp_path / "file"), "tiny"))


def test_a_checkpoint_of_another_model(disk_run: Store) -> None:
    save(claim(disk_run), make_snapshot(1), make_snapshot(2))
    with pytest.raises(
        UserError, match=r"step-00000002.*model with configuration bbbbbbbbbbbb.*this run's is eeeeeeeeeeee"
    ):
        load_checkpoint(find_checkpoint(disk_run), make_state(0), model_sha256="e" * 64)


def test_a_checkpoint_without_this_optimizers_state(disk_run: Store) -> None:
    save(claim(disk_run), make_snapshot(1))
    state = make_state(0)
    state["optimizer"]["momentum"] = torch.zeros(33)
    with pytest.raises(UserError, match=r"does not hold this run's tensors.*momentum"):
        load_checkpoint(find_checkpoint(disk_run), state, model_sha256="b" * 64)


@pytest.mark.parametrize("file", [".metadata", "progress.json"])
def test_what_a_preflight_looks_at_falls_back_as_a_load_does(disk_run: Store, file: str) -> None:
    save(claim(disk_run), make_snapshot(1), make_snapshot(2))
    flip_bit(disk_run, f"checkpoints/step-00000002-a0001/{file}")
    resolved = find_checkpoint(disk_run)
    assert resolved is not None
    checkpoint, progress = read_progress(resolved)
    assert (checkpoint.step, progress["step"]) == (1, 1)
    flip_bit(disk_run, f"checkpoints/step-00000001-a0001/{file}")
    with pytest.raises(UserError, match=r"no usable checkpoint.*step-00000002.*step-00000001"):
        read_progress(resolved)


def test_a_newer_format_is_no_reason_to_fall_back(disk_run: Store) -> None:
    save(claim(disk_run), make_snapshot(1), make_snapshot(2))
    marker = "checkpoints/step-00000002-a0001/COMMITTED.json"
    overwrite(disk_run, marker, disk_run.read_bytes(marker).replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(UserError, match="checkpoint format 2"):
        find_checkpoint(disk_run)


def test_a_named_checkpoint_that_is_damaged(disk_run: Store, caplog: pytest.LogCaptureFixture) -> None:
    save(claim(disk_run), make_snapshot(1), make_snapshot(2))
    flip_bit(disk_run, "checkpoints/step-00000002-a0001/__0_0.distcp")
    with pytest.raises(UserError, match=r"(?s)step-00000002-a0001: __0_0.distcp has sha256.*checkpoints verify"):
        load_model_tensors(resolve_url(disk_run.url))
    overwrite(disk_run, "checkpoints/step-00000002-a0001/COMMITTED.json", b"{}")
    with pytest.raises(UserError, match=r"step-00000002-a0001: COMMITTED.json is not"):
        resolve_url(disk_run.url_of("checkpoints/step-00000002-a0001"))
    assert [row.step for row in list_checkpoints(disk_run)] == [1]
    assert "step-00000002-a0001: COMMITTED.json is not the JSON of a checkpoint's marker: left out" in caplog.text


def test_an_evaluation_that_is_damaged(disk_run: Store) -> None:
    save(claim(disk_run), make_snapshot(1))
    disk_run.write_once("checkpoints/step-00000001-a0001/eval-loss.json", b"{")
    with pytest.raises(UserError, match=r"(?s)eval-loss\.json is not JSON.*delete the file"):
        show_checkpoint(resolve_url(disk_run.url))


def test_a_local_copy_that_cannot_be_written_is_told_once(
    disk_run: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    results = save(claim(disk_run), make_snapshot(1), make_snapshot(2), local=tmp_path / "file")
    assert all(result.ok for result in results)
    assert caplog.text.count("no local copies of checkpoints") == 1
    assert "no local copy of" not in caplog.text


def test_local_copies_on_a_disk_that_is_full_give_room_back(s3_run: Store, tmp_path: Path) -> None:
    attempt, local = claim(s3_run), tmp_path / "local"
    save(attempt, make_snapshot(1), make_snapshot(2), local=local)
    with file_limit(1000):
        (result,) = save(attempt, make_snapshot(3), local=local)
    assert result.ok, result.error
    copies = LocalCopies(local, "tiny")
    assert not copies.folder("step-00000001-a0001").exists()
    kept = {path.name for path in copies.folder("step-00000003-a0001").iterdir()}
    assert kept == {"config.yaml", "progress.json", "rank-00000.bin"}
    assert same(load(s3_run, local=local)[1], make_state(3))


def test_a_claim_of_a_newer_format(disk_run: Store) -> None:
    save(claim(disk_run), make_snapshot(1))
    document = json.loads(disk_run.read_bytes("attempts/a0001.json")) | {"format": 7}
    overwrite(disk_run, "attempts/a0001.json", json.dumps(document).encode())
    with pytest.raises(UserError, match=r"a0001\.json: format 7"):
        find_checkpoint(disk_run)


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("step:9", "step:9"),
        ("step:²", "step:²"),
        ("best", "best"),
        ("step-00000009-a0001", "step-00000009"),
        ("lastest", "lastest"),
    ],
)
def test_a_reference_to_nothing_lists_what_exists(disk_run: Store, reference: str, found: str) -> None:
    save(claim(disk_run), make_snapshot(1), make_snapshot(2))
    with pytest.raises(UserError, match=rf"(?s){found}.*step-00000002-a0001, step-00000001-a0001"):
        find_checkpoint(disk_run, reference)
    with pytest.raises(UserError, match="has no checkpoint"):
        resolve_url(disk_run.url.replace("tiny", "tyni"))


def test_references_and_urls_of_another_run(disk_run: Store) -> None:
    save(claim(disk_run), make_snapshot(1, validation_loss=1.0), make_snapshot(2, validation_loss=2.0))
    other = open_run(disk_run.parent().url, "other")
    resolved = find_checkpoint(other, f"{disk_run.url}@best")
    assert resolved is not None
    base = resolved.checkpoint.base_in(other)
    assert base == disk_run.url_of("checkpoints/step-00000001-a0001")
    # A run that began from another's checkpoint and has none of its own begins there again.
    claim(other, base)
    again = find_checkpoint(other)
    assert again is not None
    assert again.checkpoint.base_in(other) == base


def test_a_run_whose_folder_was_renamed_goes_on_in_its_lineage(disk_run: Store) -> None:
    first = "step-00000001-a0001"
    save(claim(disk_run), make_snapshot(1))
    disk_run.local_path().rename(disk_run.local_path().with_name("renamed"))
    renamed = open_run(disk_run.parent().url, "renamed")
    resolved = find_checkpoint(renamed)
    assert resolved is not None
    assert resolved.checkpoint.committed.run != "renamed"
    assert resolved.checkpoint.base_in(renamed) == first
    claim(renamed, first)
    assert read_lineage(renamed, read_checkpoints(renamed).by_name()).names == (first,)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_full_disk_fails_the_save_and_keeps_the_last_good_one(disk_run: Store, asynchronous: bool) -> None:
    attempt = claim(disk_run)
    saver = Saver(attempt, group=None, asynchronous=asynchronous)
    saver.save(make_snapshot(1))
    assert saver.wait()[0].ok
    with file_limit(4000):
        saver.save(make_snapshot(2))
        (failed,) = saver.wait()
    assert not failed.ok
    assert "step-00000002-a0001 not saved: rank 0: OSError: [Errno 27] File too large" in str(failed.error)
    assert [path for path in disk_run.find() if "step-00000002" in path] == []
    assert load(disk_run)[0].checkpoint.step == 1
    # The same step may be tried again, at the end of the run say.
    saver.save(make_snapshot(2))
    (result,) = saver.wait()
    assert result.ok, result.error
    assert same(load(disk_run)[1], make_state(2))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_of_the_machine_that_loads_is_not_the_stores_fault(
    s3_run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(claim(s3_run), make_snapshot(1), make_snapshot(2))
    download = Store.download
    asked: list[str] = []

    def onto_a_full_disk(self: Store, path: str, _target: Path, size_bytes: int) -> str:
        asked.append(path)
        return download(self, path, Path("/dev/full"), size_bytes)  # stands for the disk of a temporary folder

    monkeypatch.setattr(Store, "download", onto_a_full_disk)
    with pytest.raises(UserError, match=r"(?s)^/dev: No space left on device.*room for .*step-00000002.*TMPDIR"):
        load(s3_run)
    assert asked == [".metadata"]  # neither again, nor of an older checkpoint


def test_a_store_that_went_away_fails_the_save_only(
    start_server: Callable[[str], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of("s3", start_server, tmp_path, monkeypatch)
    attempt = claim(open_run(url, "tiny"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    gone = open_run(url, "tiny", retry_seconds=0.01)
    (result,) = save(type(attempt)(gone, attempt.claim), make_snapshot(1))
    assert not result.ok
    assert "not saved" in str(result.error)


def test_the_local_copy_serves_a_restart_and_a_broken_one_costs_a_download(
    s3_run: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "local"
    save(claim(s3_run), make_snapshot(1), local=local)
    copy = LocalCopies(local, "tiny").folder("step-00000001-a0001")
    assert sorted(path.name for path in copy.iterdir()) == sorted(
        path.rpartition("/")[2] for path in s3_run.find("checkpoints")
    )
    data = bytearray((copy / "__0_0.distcp").read_bytes())
    (copy / "__0_0.distcp").write_bytes(bytes(data[:-1]))
    fetched: list[str] = []
    download = Store.download

    def noting_download(self: Store, path: str, target: Path, size_bytes: int) -> str:
        fetched.append(path)
        return download(self, path, target, size_bytes)

    monkeypatch.setattr(Store, "download", noting_download)
    loaded, state = load(s3_run, local=local)
    assert same(state, make_state(1))
    assert loaded.rank_state == b"rank state of step 1"
    assert fetched == ["__0_0.distcp"]
    assert (copy / "__0_0.distcp").read_bytes() == bytes(data)
    flip_bit(s3_run, "checkpoints/step-00000001-a0001/__0_0.distcp")
    assert same(load(s3_run, local=local)[1], make_state(1))
