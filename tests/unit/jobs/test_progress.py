"""A /status document in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trainer.elastic.rounds import Seen, Wait
from trainer.elastic.status import RunStatus
from trainer.jobs.display import Lines
from trainer.jobs.progress import phase_word, progress_line
from trainer.jobs.state import Phase

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DOCUMENT: dict[str, Any] = {
    "format": 1,
    "run": "gpt2",
    "attempt": "a0004",
    "round": 3,
    "phase": "training",
    "step": 120,
    "steps_total": 1000,
    "tokens": 1_234_567,
    "loss": 3.21414,
    "validation_loss": 3.3,
    "tokens_per_second": 12_345.6,
    "mfu_ratio": 0.41,
    "world_size": 16,
    "nodes": {"min": 1, "max": 4},
    "members": [{"id": "x", "host": "gpt2-worker-0", "slots": 8, "step": 120, "last_seen_seconds": 0.2}],
    "last_progress_time": "2026-01-01T11:59:48+00:00",
    "last_checkpoint": {
        "name": "step-00000100-a0004",
        "step": 100,
        "time": "2026-01-01T11:57:00+00:00",
        "url": "s3://b",
    },
    "goodput_seconds": {"other": 1.0, "training": 9.0, "init": 0.0},
    "restarts": {"Preempted": 2, "Scaled": 1},
    "eta_time": "2026-01-01T13:02:00+00:00",
    "cost": {"spent": 3.1, "remaining": 12.0, "currency": "EUR"},
    "last_error": {"exit_code": 1, "reason": "WorkerFailed", "message": "error: rank 1 died"},
}


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
