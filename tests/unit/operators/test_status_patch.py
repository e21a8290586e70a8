from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from operators.api import Failures, Phase, Suspension, TrainingRunStatus
from operators.status_patch import can_wait, difference, first, with_condition

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BEFORE = TrainingRunStatus(
    phase=Phase.RUNNING, step=10, loss=3.0, failures=Failures(seen={"pod/a": 1, "pod/b": 2}), workers=4
)


def apply(document: Any, patch: Any) -> Any:
    """RFC 7386, as the API server does it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply(result.get(key), value)
    return result


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({}, set()),
        ({"step": 11, "loss": 2.9}, {"step", "loss"}),
        ({"workers": None}, {"workers"}),
        ({"failures": Failures(seen={"pod/b": 3})}, {"failures"}),
        ({"suspension": Suspension(reason="Suspended", time=NOW, generation=1)}, {"suspension"}),
    ],
)
def test_a_patch_makes_one_into_the_other(change: dict[str, Any], keys: set[str]) -> None:
    after = BEFORE.model_copy(update=change)
    patch = difference(BEFORE, after)
    assert patch.keys() == keys
    stored = BEFORE.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert TrainingRunStatus.model_validate(apply(stored, patch)) == after


def test_what_is_gone_from_a_map_is_said() -> None:
    after = BEFORE.model_copy(update={"failures": Failures(seen={"pod/b": 2})})
    assert difference(BEFORE, after) == {"failures": {"seen": {"pod/a": None}}}


def test_figures_can_wait_and_facts_cannot() -> None:
    assert can_wait(difference(BEFORE, BEFORE.model_copy(update={"step": 11, "tokens_per_second": 5.0})))
    assert not can_wait(difference(BEFORE, BEFORE.model_copy(update={"step": 11, "phase": Phase.DRAINING})))


def test_the_first_write_says_all_that_is_known() -> None:
    patch = first(TrainingRunStatus(step=1))
    assert patch["phase"] == "Pending"
    assert "loss" not in patch


def test_a_condition_keeps_its_time_while_it_holds() -> None:
    def put(status: TrainingRunStatus, value: str, message: str, now: datetime) -> TrainingRunStatus:
        return with_condition(
            status, kind="Healthy", value=value, reason="Forbidden", message=message, generation=2, now=now
        )

    once = put(BEFORE, "False", "a", NOW)
    later = NOW.replace(hour=13)
    twice = put(once, "False", "b", later)
    assert [(one.message, one.last_transition_time) for one in twice.conditions] == [("b", NOW)]
    assert put(twice, "True", "", later).conditions[0].last_transition_time == later
