"""The watcher over a store whose checkpoints come and go: what it evaluates, what it passes over, when it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.evaluate.test_record import RESULT, commit
from trainer.checkpoint.attempts import claim_attempt
from trainer.checkpoint.cleanup import delete_folder
from trainer.checkpoint.layout import Checkpoint, CorruptCheckpoint, checkpoint_name
from trainer.checkpoint.store import Store, open_run
from trainer.errors import UserError
from trainer.evaluate.record import Record, write_record
from trainer.evaluate.watch import is_finished, watch


@pytest.fixture
def run(tmp_path: Path) -> Store:
    """A run of one attempt."""
    run = open_run(str(tmp_path), "tiny")
    claim(run)
    return run


def claim(run: Store, base: str | None = None) -> None:
    claim_attempt(run, world_size=1, config_sha256="a", base_checkpoint=base)


def tell_end(run: Store, attempt: str = "a0001") -> None:
    line = {"time": "2026-01-02T00:00:00+00:00", "kind": "finished", "reason": "finished"}
    run.replace(f"logs/{attempt}/events-000.jsonl", b"half a li\n" + json.dumps(line).encode() + b"\n")


class Watched:
    """A watch whose waits are filled with what a test does, one after the other; the last one ends the run."""

    def __init__(self, run: Store, *happens: Callable[[], None]) -> None:
        self.run, self._happens = run, list(happens)
        self.steps: list[int] = []
        self.said: list[str] = []
        self.failing: dict[int, Exception] = {}

    def evaluate(self, checkpoint: Checkpoint) -> Record:
        if checkpoint.step in self.failing:
            raise self.failing.pop(checkpoint.step)
        return write_record(checkpoint, "w", RESULT.model_copy(update={"step": checkpoint.step}))

    def _next(self) -> None:
        self._happens.pop(0)()

    def go(self) -> Watched:
        watch(
            self.run,
            "w",
            self.evaluate,
            tell=lambda record: self.steps.append(record.step or 0),
            say=self.said.append,
            wait=self._next,
        )
        assert self._happens == []
        return self


def test_each_checkpoint_as_it_comes_until_the_run_is_finished(run: Store) -> None:
    def last() -> None:
        commit(run, 30)
        tell_end(run)

    watched = Watched(run, lambda: commit(run, 10), lambda: None, lambda: commit(run, 20), last).go()
    assert watched.steps == [10, 20, 30]
    assert watched.said[-1].endswith("is finished, and all that is left of it is evaluated")
    # Once for all the waiting.
    assert len([line for line in watched.said if "waiting" in line]) == 1


def test_the_newest_comes_first_and_what_has_its_record_is_not_done_again(run: Store) -> None:
    for step in (10, 20, 30):
        commit(run, step)
    write_record(commit(run, 40), "w", RESULT)
    tell_end(run)
    assert Watched(run).go().steps == [30, 20, 10]
    assert Watched(run).go().steps == []


def test_a_checkpoint_that_is_deleted_in_the_middle_is_passed_over(run: Store) -> None:
    commit(run, 10)
    second = commit(run, 20)
    tell_end(run)

    class Pruned(Watched):
        def evaluate(self, checkpoint: Checkpoint) -> Record:
            if checkpoint.step == 20:
                delete_folder(run, second.name, second.sizes)
                raise FileNotFoundError("a file of it")
            return super().evaluate(checkpoint)

    watched = Pruned(run).go()
    assert watched.steps == [10]
    assert "step-00000020-a0001: deleted by the run's retention before it was evaluated; passed over" in watched.said


def test_a_checkpoint_that_is_not_sound_is_passed_over(run: Store) -> None:
    commit(run, 10)
    commit(run, 20)
    tell_end(run)
    watched = Watched(run)
    corrupt = CorruptCheckpoint(checkpoint_name(20, 1), "__0_0.distcp", "is missing")
    error = corrupt.as_user_error()
    error.__cause__ = corrupt
    watched.failing[20] = error
    assert watched.go().steps == [10]
    assert "checkpoint step-00000020-a0001: __0_0.distcp is missing; passed over" in watched.said


def test_wrong_input_ends_it(run: Store) -> None:
    commit(run, 10)
    watched = Watched(run)
    watched.failing[10] = UserError("no such file", expected="a file", fix="check")
    with pytest.raises(UserError, match="no such file"):
        watched.go()


def test_a_store_that_does_not_answer_is_asked_again(run: Store) -> None:
    commit(run, 10)
    tell_end(run)
    watched = Watched(run, lambda: None)
    watched.failing[10] = ConnectionResetError("reset")
    assert watched.go().steps == [10]


def test_what_a_fenced_attempt_left_is_no_part_of_the_run(run: Store) -> None:
    commit(run, 10)
    commit(run, 20)
    claim(run, base=checkpoint_name(10, 1))
    tell_end(run, "a0002")
    assert Watched(run).go().steps == [10]


def test_a_run_is_finished_by_its_newest_attempt_alone(run: Store) -> None:
    assert not is_finished(open_run(str(run.local_path().parent), "none"))
    assert not is_finished(run)
    tell_end(run)
    assert is_finished(run)
    claim(run)  # it was made longer and goes on
    assert not is_finished(run)


@pytest.mark.parametrize(
    ("length", "finished"),
    [("steps: 20", True), ("steps: 21", False), ("epochs: 0.2", True), ("tokens: 2001", False), ("tokens: 2000", True)],
)
def test_a_run_whose_last_lines_were_lost_is_finished_by_its_length(run: Store, length: str, finished: bool) -> None:
    commit(run, 10)
    commit(run, 20)
    run.replace("run.yaml", length.encode())
    assert is_finished(run) == finished
