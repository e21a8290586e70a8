"""Checkpoints whose documents are damaged or made by somebody else: refused in words, and nothing is unpickled before
its hash was compared."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.checkpoint.helpers import MODEL_SHA256, Bomb, claim, make_snapshot, make_state, save
from tests.unit.fuzz.mutations import changed, damaged, few
from trainer.checkpoint.attempts import read_claims
from trainer.checkpoint.layout import CorruptCheckpoint, parse_committed, read_checkpoints
from trainer.checkpoint.load import find_checkpoint, load_checkpoint
from trainer.checkpoint.store import Store, open_run
from trainer.errors import UserError

OLDER, NEWER = "step-00000001-a0001", "step-00000002-a0001"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints."""
    folder = tmp_path_factory.mktemp("store")
    save(claim(open_run(str(folder), "tiny")), make_snapshot(1), make_snapshot(2))
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Store:
    """A copy of it."""
    return fresh(saved, tmp_path)


def fresh(saved: Path, tmp_path: Path) -> Store:
    folder = tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder)
    return open_run(str(folder), "tiny")


def load(run: Store) -> str:
    """Name of the checkpoint that a run would go on from."""
    return load_checkpoint(find_checkpoint(run), make_state(0), model_sha256=MODEL_SHA256).checkpoint.name


@few
@given(data=st.data())
def test_markers(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    run = fresh(saved, tmp_path)
    path = run.local_path(f"checkpoints/{NEWER}/COMMITTED.json")
    whole = path.read_bytes()
    edited = json.dumps(data.draw(changed(json.loads(whole)))).encode()
    text = data.draw(st.sampled_from([edited, data.draw(damaged(whole)), b"[" * 5000, b'{"format": [1]}']))
    path.write_bytes(text)
    with contextlib.suppress(UserError, CorruptCheckpoint):
        parse_committed(text, f"checkpoints/{NEWER}")
    try:
        read_checkpoints(run)
        # A marker of which a part is wrong stands for nothing: the run goes on from the one before.
        assert load(run) == (NEWER if json_of(text) == json_of(whole) else OLDER)
    except UserError as error:
        assert "format" in str(error)  # noqa: PT017  # of a newer program: the one refusal


def json_of(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@pytest.mark.parametrize("file", [".metadata", "rank-00000.bin", "progress.json", "__0_0.distcp"])
@few
@given(data=st.data())
def test_files_of_a_checkpoint(saved: Path, tmp_path: Path, file: str, data: st.DataObject) -> None:
    run = fresh(saved, tmp_path)
    path = run.local_path(f"checkpoints/{NEWER}/{file}")
    whole = path.read_bytes()
    trace = tmp_path / "trace"
    bomb = pickle.dumps(Bomb(trace))
    # As long as the one that was committed, or not.
    found = data.draw(damaged(whole) | st.just(bomb) | st.just((bomb + b"\0" * len(whole))[: len(whole)]))
    path.write_bytes(found)
    assert load(run) == (NEWER if found == whole else OLDER)
    assert not trace.exists()


@few
@given(data=st.data())
def test_claims(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    run = fresh(saved, tmp_path)
    path = run.local_path("attempts/a0001.json")
    whole = path.read_bytes()
    edited = json.dumps(data.draw(changed(json.loads(whole)))).encode()
    path.write_bytes(data.draw(st.sampled_from([edited, data.draw(damaged(whole)), b"[" * 5000])))
    try:
        read_claims(run)
        assert load(run) in (OLDER, NEWER)
    except UserError:
        pass
