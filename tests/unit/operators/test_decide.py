"""Decisions as a table of named cases."""

from __future__ import annotations

from operators.decide import decide
from tests.unit.operators.worlds import NOW, world


def test_a_run_that_trains_is_left_alone() -> None:
    decision = decide(world(), NOW)
    assert decision.actions == ()
    assert decision.status.phase == "Running"
    assert {c.type: c.status for c in decision.status.conditions} == {
        "Ready": "True",
        "Progressing": "True",
        "Checkpointed": "True",
        "Healthy": "True",
        "Succeeded": "False",
        "Failed": "False",
    }
