"""Uploads of exports: to stores, where an interrupted one goes on and half of one is none, and to the Hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from huggingface_hub import constants

from tests.integration.evaluate.exports import Hub, small_hub, write_run
from tests.integration.servers import Server
from trainer.checkpoint.store import Store
from trainer.errors import UserError
from trainer.evaluate.export import Done, ExportRequest, run_export

MODEL = {"family": "llama", "vocab_size": 512, "context": 32, "layers": 1, "width": 16, "heads": 2}
URL = "memory://bucket/exports/small"


@pytest.fixture(autouse=True)
def run(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in runs/small of the working folder, and an empty store."""
    monkeypatch.chdir(tmp_path)
    MemoryFileSystem.store.clear()
    write_run("runs", dataset, MODEL)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are uploaded, in order."""
    names: list[str] = []
    upload = Store.upload

    def noted(self: Store, source: Path, path: str, advance: Callable[[int], None]) -> None:
        upload(self, source, path, advance)
        names.append(path)

    monkeypatch.setattr(Store, "upload", noted)
    return names


def export(url: str = URL, **options: Any) -> Done:
    return run_export(ExportRequest("runs/small", None, url, max_shard_bytes=20_000, **options))


def files(url: str = URL) -> dict[str, bytes]:
    """What is in a store, by name."""
    filesystem, root = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    return {path.rsplit("/", 1)[-1]: filesystem.cat_file(path) for path in filesystem.find(root)}


def test_an_upload_is_what_a_folder_would_be(sent: list[str]) -> None:
    run_export(ExportRequest("runs/small", Path("out"), URL, max_shard_bytes=20_000))
    assert files() == {file.name: file.read_bytes() for file in Path("out").iterdir()}
    # A loader that looks at a half-done upload finds no config.
    assert sent[-2:] == ["config.json", "model.safetensors.index.json"]
    assert len([name for name in sent if name.endswith(".safetensors")]) > 2


def test_the_same_export_again_sends_nothing(sent: list[str]) -> None:
    export()
    sent.clear()
    assert export().uploaded == URL
    assert sent == []


def test_an_interrupted_upload_goes_on(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write = Store.upload

    def broken(self: Store, source: Path, path: str, advance: Callable[[int], None]) -> None:
        if path.startswith("model-00003"):
            raise RuntimeError("the machine went away")
        write(self, source, path, advance)

    monkeypatch.setattr(Store, "upload", broken)
    with pytest.raises(RuntimeError, match="went away"):
        export()
    assert "exported.json" not in files()
    assert "config.json" not in files()
    before, _ = list(sent), sent.clear()
    assert before
    monkeypatch.setattr(Store, "upload", write)
    # What arrived in another size than the list says is sent again.
    MemoryFileSystem().pipe_file("/bucket/exports/small/" + before[0], b"torn")
    export()
    assert set(sent) & set(before) == {before[0]}
    assert "uploading.json" not in files()
    record = json.loads(files()["exported.json"])
    assert files().keys() == record["files"].keys() | {"exported.json"}


def test_a_file_whose_sending_breaks_off_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stream_of = Store._stream
    failures = [TimeoutError("no answer"), ConnectionResetError("gone")]

    @contextmanager
    def troubled(self: Store, path: str) -> Iterator[IO[bytes]]:
        with stream_of(self, path) as stream:
            yield stream
            if failures:
                raise failures.pop()

    monkeypatch.setattr(Store, "_stream", troubled)
    export("store")
    assert not failures
    record = json.loads(files("store")["exported.json"])
    assert {name: len(content) for name, content in files("store").items() if name != "exported.json"} == {
        name: entry["bytes"] for name, entry in record["files"].items()
    }


def test_another_export_is_replaced_only_when_asked() -> None:
    export()
    before = files()
    with pytest.raises(UserError, match="holds another export"):
        export(dtype="bf16")
    assert files() == before
    export(dtype="bf16", replace=True)
    record = json.loads(files()["exported.json"])
    assert record["dtype"] == "bf16"
    # bf16 takes fewer files: those of the first export are gone.
    assert files().keys() == record["files"].keys() | {"exported.json"} != before.keys()


def test_a_place_with_other_files_is_refused_before_an_export_is_made() -> None:
    MemoryFileSystem().pipe_file("/bucket/exports/small/thesis.txt", b"mine")
    (Path("runs/small/checkpoints/step-00000030-a0001") / "__0_0.distcp").unlink()
    with pytest.raises(UserError, match=r"holds 1 files and neither exported\.json"):
        export(replace=True)


def test_a_bucket(start_server: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> None:
    server = start_server("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    url = f"{server.url}/exports/small"
    export(url)
    record = json.loads(files(url)["exported.json"])
    assert {name: len(content) for name, content in files(url).items() if name != "exported.json"} == {
        name: entry["bytes"] for name, entry in record["files"].items()
    }


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub of this process: a server with the few answers that a commit takes (the real one needs an account)."""
    with small_hub() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        # What the library asks any Hub and keeps for a day must not come from this one.
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "kept.json"), raising=False)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield served


def test_the_hub_gets_one_commit(hub: Hub) -> None:
    hub.files["model.safetensors"] = b"of an earlier export, which a loader would take"
    hub.files["notes.txt"] = b"somebody's"
    done = run_export(ExportRequest("runs/small", Path("out"), "hf://me/small", max_shard_bytes=20_000))
    assert done.uploaded == f"{hub.url}/me/small/commit/1"
    assert hub.commits == ["small, step-00000030-a0001, fp32"]
    # The key since version 2 of the library, and the one before.
    assert hub.created[0].get("visibility") == "private" or hub.created[0]["private"] is True
    assert hub.tokens == {"Bearer hf_test"}
    assert hub.files == {"notes.txt": b"somebody's"} | {file.name: file.read_bytes() for file in Path("out").iterdir()}


def test_a_token_that_the_hub_refuses(hub: Hub) -> None:
    hub.refuses = True
    with pytest.raises(UserError, match="HF_TOKEN"):
        export("hf://me/small")
    assert hub.files == {}
