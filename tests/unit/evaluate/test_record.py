"""eval-NAME.json: its name, once, and never alone in the folder of a checkpoint that was deleted."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trainer.checkpoint.cleanup import delete_folder
from trainer.checkpoint.layout import MARKER, Checkpoint, Committed, checkpoint_name, marker_bytes, read_checkpoints
from trainer.checkpoint.store import Store, open_run
from trainer.errors import UserError
from trainer.evaluate.record import (
    AlreadyEvaluated,
    CheckpointGone,
    Record,
    record_file,
    require_unwritten,
    write_record,
)
from trainer.evaluate.result import Result, SetResult

RESULT = Result(model="runs/tiny", step=10, validation_loss=2.5, perplexity=math.exp(2.5), dataset="data/x")


def commit(run: Store, step: int = 10) -> Checkpoint:
    """A checkpoint that has its marker and one file."""
    name = checkpoint_name(step, 1)
    fields = {
        "nonce": "n",
        "run": "tiny",
        "step": step,
        "tokens": step * 100,
        "epoch": step / 100,
        "attempt": 1,
        "world_size": 1,
        "loss": 3.0,
        "config_sha256": "a",
        "model_sha256": "b",
        "dataset_sha256": "c",
        "tokenizer_sha256": "d",
        "committed_at": datetime(2026, 1, 2, tzinfo=UTC),
        "duration_seconds": 1.0,
        "bytes": 1,
        "files": {"progress.json": {"bytes": 1, "sha256": "e"}},
    }
    folder = run.child(f"checkpoints/{name}")
    folder.write_once("progress.json", b"x")
    folder.write_once(MARKER, marker_bytes(Committed.model_validate(fields)))
    return read_checkpoints(run).by_name()[name]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return commit(open_run(str(tmp_path), "tiny"))


def read_wide(checkpoint: Checkpoint) -> Record:
    return Record.model_validate_json(checkpoint.store.read_bytes("eval-wide.json"))


@pytest.mark.parametrize("name", ["", "A", "a b", "a/b", "-a", "a-", "a" * 41, "../a", "ä"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--write {name}"):
        record_file(name)


def test_what_is_written_reads_back_and_is_written_once(checkpoint: Checkpoint) -> None:
    record = write_record(checkpoint, "wide", RESULT)
    assert read_wide(checkpoint) == record
    assert (record.checkpoint, record.name, record.validation_loss) == ("step-00000010-a0001", "wide", 2.5)
    with pytest.raises(AlreadyEvaluated, match=r"eval-wide.json exists already\n"):
        write_record(checkpoint, "wide", RESULT)
    again = read_checkpoints(checkpoint.store.parent().parent()).committed[0]
    with pytest.raises(AlreadyEvaluated, match="exists already"):
        require_unwritten(again, "wide")
    require_unwritten(again, "other")
    assert read_wide(checkpoint) == record


def test_a_loss_that_is_no_number_reads_back_too(checkpoint: Checkpoint) -> None:
    one = SetResult(
        validation_loss=math.inf,
        perplexity=math.inf,
        bits_per_byte=None,
        standard_error=math.nan,
        sequences=1,
        sequence_length=2,
        dataset="x",
    )
    write_record(checkpoint, "wide", RESULT.model_copy(update={"sets": (one,)}))
    (found,) = read_wide(checkpoint).sets
    assert found.perplexity == math.inf
    assert math.isnan(found.standard_error or 0)


def test_nothing_is_written_beside_a_checkpoint_that_is_gone(checkpoint: Checkpoint) -> None:
    run = checkpoint.store.parent().parent()
    delete_folder(run, checkpoint.name, checkpoint.sizes)
    with pytest.raises(CheckpointGone):
        write_record(checkpoint, "wide", RESULT)
    assert run.find("checkpoints") == {}


def test_retention_takes_a_record_that_came_after_its_listing(checkpoint: Checkpoint) -> None:
    run = checkpoint.store.parent().parent()
    listed = dict(checkpoint.sizes)
    write_record(checkpoint, "wide", RESULT)
    delete_folder(run, checkpoint.name, listed)
    assert run.find("checkpoints") == {}


def test_a_record_that_came_after_the_deletion_is_taken_away_again(checkpoint: Checkpoint) -> None:
    run = checkpoint.store.parent().parent()

    class Late(Store):
        """Retention deletes the checkpoint between the look at its marker and the writing."""

        def write_once(self, path: str, data: bytes) -> None:
            delete_folder(run, checkpoint.name, checkpoint.sizes)
            super().write_once(path, data)

    store = checkpoint.store
    late = Checkpoint(Late(store.filesystem, store.root, store.url), checkpoint.committed, checkpoint.sizes)
    with pytest.raises(CheckpointGone):
        write_record(late, "wide", RESULT)
    assert run.find("checkpoints") == {}
    assert not store.local_path().exists()
