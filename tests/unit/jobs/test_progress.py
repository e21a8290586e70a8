"""A /status document in words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.jobs.documents import DOCUMENT, NOW
from trainer.elastic.rounds import Seen, Wait
from trainer.elastic.status import RunStatus
from trainer.jobs.display import Lines
from trainer.jobs.progress import phase_word, progress_line
from trainer.jobs.state import Phase


def test_one_line() -> None:
    line = progress_line(Phase.RUNNING, DOCUMENT, NOW)
    assert line == "training  step  120/1000  loss 3.2141  12.3k tokens/s  ETA 1h02m"


@pytest.mark.parametrize(
    ("phase", "document", "word"),
    [
        (Phase.PENDING, None, "pending"),
        (Phase.RUNNING, {"phase": "restoring"}, "restoring"),
        (Phase.DRAINING, {"phase": "draining"}, "draining"),
        # A coordinator outlives the workers, and says what it saw last.
        (Phase.SUSPENDED, {"phase": "waiting"}, "suspended"),
        (Phase.QUEUED, {"phase": "waiting"}, "queued"),
        (Phase.FAILED, {"phase": "training"}, "failed"),
    ],
)
def test_whose_word_counts(phase: Phase, document: dict[str, Any] | None, word: str) -> None:
    assert phase_word(phase, document) == word


def test_the_document_of_a_coordinator_that_just_started() -> None:
    status = RunStatus()
    status.look_at("gpt2", Seen(hold_until=0.0), Wait("nobody is here"), now=0.0)
    assert progress_line(Phase.PENDING, status.document(), NOW) == "waiting"


def test_lines_tell_changes_of_phase_at_once_and_steps_now_and_then() -> None:
    said: list[str] = []
    lines = Lines(said.append)
    for second, step in ((0, 1), (1, 2), (9, 9), (10, 10), (12, 12), (30, 12), (45, 12)):
        document = {**DOCUMENT, "step": step, "eta_time": None}
        lines.show(Phase.RUNNING, document, NOW + timedelta(seconds=second))
    lines.show(Phase.SUCCEEDED, {**DOCUMENT, "step": 12, "eta_time": None}, NOW + timedelta(seconds=46))
    assert [(line.split()[0], line.split()[2].partition("/")[0]) for line in said] == [
        ("training", "1"),
        ("training", "10"),
        ("training", "12"),
        ("succeeded", "12"),
    ]
