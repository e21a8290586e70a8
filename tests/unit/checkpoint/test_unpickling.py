"""A checkpoint whose marker and hashes all agree runs nothing, whoever made it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from torch.distributed.checkpoint.metadata import (
    _MEM_FORMAT_ENCODING,
    BytesStorageMetadata,
    Metadata,
    MetadataIndex,
)

from tests.integration.checkpoint.helpers import (
    MODEL_SHA256,
    Bomb,
    claim,
    load,
    make_snapshot,
    make_state,
    overwrite,
    save,
)
from trainer.checkpoint.layout import CorruptCheckpoint, parse_committed
from trainer.checkpoint.load import find_checkpoint, load_checkpoint
from trainer.checkpoint.manage import pull_checkpoint
from trainer.checkpoint.references import resolve_url
from trainer.checkpoint.store import Store, open_run
from trainer.checkpoint.tensors import load_model_tensors
from trainer.checkpoint.unpickling import read_metadata
from trainer.errors import UserError

OLDER, NEWER = "step-00000001-a0001", "step-00000002-a0001"


@pytest.fixture
def run(tmp_path: Path) -> Store:
    """A run with two checkpoints."""
    found = open_run(str(tmp_path / "store"), "tiny")
    save(claim(found), make_snapshot(1), make_snapshot(2))
    return found


def replace(store: Store, contents: dict[str, bytes], **marker: Any) -> None:
    """Change files of the newest checkpoint, and its marker with them, as who can write the store can."""
    folder = f"checkpoints/{NEWER}"
    fields = json.loads(store.read_bytes(f"{folder}/COMMITTED.json"))
    for name, data in contents.items():
        overwrite(store, f"{folder}/{name}", data)
        fields["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    fields |= marker
    fields["sha256"] = None
    overwrite(store, f"{folder}/COMMITTED.json", json.dumps(fields).encode())


def test_the_bomb_goes_off_where_nothing_stops_it(tmp_path: Path) -> None:
    """Else the tests below could not fail."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside-metadata"])
def test_metadata_that_calls_something_is_refused(run: Store, tmp_path: Path, inside: bool) -> None:
    trace = tmp_path / "trace"
    bomb = pickle.dumps(Metadata({}, planner_data=Bomb(trace)) if inside else Bomb(trace))
    replace(run, {".metadata": bomb})
    loaded, _ = load(run)
    assert loaded.checkpoint.name == OLDER
    assert any("os.mkdir" in line or "posix.mkdir" in line for line in loaded.skipped)
    with pytest.raises(UserError, match="mkdir"):
        load_model_tensors(resolve_url(run.url_of(f"checkpoints/{NEWER}")))
    assert not trace.exists()


@pytest.mark.parametrize("key", ["optimizer.lr", "model.norm.weight"])
def test_a_value_that_calls_something_is_refused(run: Store, tmp_path: Path, key: str) -> None:
    """One that was never a tensor, and one of which the metadata says so: torch's own planner would call it."""
    trace, file = tmp_path / "trace", "__9_0.distcp"
    bomb = io.BytesIO()
    torch.save(Bomb(trace), bomb)
    metadata = read_metadata(run.read_bytes(f"checkpoints/{NEWER}/.metadata"))
    (index,) = (index for index in metadata.storage_data if index.fqn == key)
    place = metadata.storage_data.pop(index)
    place.relative_path, place.offset, place.length = file, 0, len(bomb.getvalue())
    metadata.storage_data[MetadataIndex(key)] = place
    metadata.state_dict_metadata[key] = BytesStorageMetadata()
    replace(run, {file: bomb.getvalue(), ".metadata": pickle.dumps(metadata)})
    loaded, _ = load(run)
    assert loaded.checkpoint.name == OLDER
    assert any(file in line and "mkdir" in line for line in loaded.skipped)
    assert not trace.exists()


def test_plain_values_come_back(run: Store) -> None:
    loaded, state = load(run)
    assert loaded.checkpoint.name == NEWER
    assert state["optimizer"]["lr"] == make_state(2)["optimizer"]["lr"]


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", b"cos\nsystem\n(S'true'\ntR.", pickle.dumps({"a": 1})])
def test_what_is_no_metadata(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_metadata(data)


class ByGetattr:
    """Pickled as Python 3.11.0 to 3.11.3 pickle a member of an enumeration."""

    def __init__(self, of: Any, name: str) -> None:
        self._of, self._name = of, name

    def __reduce__(self) -> tuple[Any, ...]:
        return (getattr, (self._of, self._name))


def test_a_memory_format_may_be_named_by_getattr_and_nothing_else() -> None:
    format_ = _MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT
    found = read_metadata(pickle.dumps(Metadata({}, ByGetattr(_MEM_FORMAT_ENCODING, format_.name))))
    assert found.planner_data is format_
    for of, name in ((_MEM_FORMAT_ENCODING, "mro"), (torch.Size, "numel")):
        with pytest.raises(pickle.UnpicklingError, match=r"builtins\.getattr for more than a memory format"):
            read_metadata(pickle.dumps(Metadata({}, ByGetattr(of, name))))


@pytest.mark.parametrize("name", ["../../../x", "/etc/x", "a/../../x", "a//x", "", "./x", "a\0b"])
def test_a_marker_cannot_name_files_elsewhere(run: Store, name: str) -> None:
    replace(run, {}, files={name: {"bytes": 1, "sha256": "0" * 64}})
    folder = f"checkpoints/{NEWER}"
    with pytest.raises(CorruptCheckpoint, match="files"):
        parse_committed(run.read_bytes(f"{folder}/COMMITTED.json"), folder)
    assert load_checkpoint(find_checkpoint(run), make_state(0), model_sha256=MODEL_SHA256).checkpoint.name == OLDER


@pytest.mark.parametrize("name", ["../other", "..", "", "a/b"])
def test_a_marker_cannot_name_a_run_elsewhere(run: Store, name: str) -> None:
    """The node's own copies lie below that name."""
    replace(run, {}, run=name)
    folder = f"checkpoints/{NEWER}"
    with pytest.raises(CorruptCheckpoint, match="run"):
        parse_committed(run.read_bytes(f"{folder}/COMMITTED.json"), folder)


@pytest.fixture
def bucket(run: Store) -> Iterator[str]:
    """URL of the run in a store whose keys may be any text, as those of S3 are."""
    memory = fsspec.filesystem("memory")
    for name in run.find():
        memory.pipe_file(f"/bucket/tiny/{name}", run.read_bytes(name))
    yield "memory://bucket/tiny"
    with contextlib.suppress(FileNotFoundError):
        memory.rm("/bucket", recursive=True)


def test_nothing_is_pulled_to_elsewhere(bucket: str, tmp_path: Path) -> None:
    """A bucket lists keys such as `../x`, so the file would be found and written."""
    remote = open_run("memory://bucket", "tiny")
    data = b"elsewhere"
    key = f"checkpoints/{NEWER}/../../outside"
    remote.filesystem.store[f"{remote.root}/{key}"] = remote.filesystem.store[
        f"{remote.root}/checkpoints/{NEWER}/progress.json"
    ]
    assert key in remote.find("checkpoints")
    folder = f"checkpoints/{NEWER}"
    fields = json.loads(remote.read_bytes(f"{folder}/COMMITTED.json"))
    fields["files"]["../../outside"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    fields["sha256"] = None
    overwrite(remote, f"{folder}/COMMITTED.json", json.dumps(fields).encode())
    target = tmp_path / "here" / "there"
    with pytest.raises(UserError, match="files"):
        pull_checkpoint(resolve_url(f"{bucket}/{folder}"), target)
    assert not target.exists()
