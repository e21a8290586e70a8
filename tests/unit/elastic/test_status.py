"""What `/metrics` makes of rank 0's reports."""

from __future__ import annotations

from trainer.elastic.rounds import Seen, Wait
from trainer.elastic.status import RunStatus


def failures(status: RunStatus) -> float:
    lines = status.metrics().decode().splitlines()
    return float(next(line for line in lines if line.startswith("trainer_checkpoint_failures_total")).split()[1])


def test_failed_saves_are_counted_over_attempts() -> None:
    status = RunStatus()
    status.look_at("small", Seen(hold_until=0.0), Wait("nobody is here"), now=0.0)
    assert failures(status) == 0
    status.report({"failed_saves": 1})
    status.report({"failed_saves": 3})  # the message of the second got lost
    status.report({"failed_saves": 3})
    assert failures(status) == 3
    status.round_formed("small", "Preempted")
    status.report({"failed_saves": 1})
    assert failures(status) == 4
