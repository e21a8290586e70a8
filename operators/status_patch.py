"""What has to be written of a run's status, and whether it can wait. Pure; `apply` writes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from operators.api import Condition, TrainingRunStatus

# Figures that change all the time. Alone they are no reason to write more often than the interval says.
FIGURES = {
    "step",
    "stepsTotal",
    "loss",
    "tokensPerSecond",
    "mfu",
    "goodput",
    "lastCheckpoint",
    "estimatedCompletion",
}


def difference(before: TrainingRunStatus, after: TrainingRunStatus) -> dict[str, Any]:
    """A merge patch (RFC 7386) from one to the other; empty: they are equal."""
    # Most passes change a few figures, and not the conditions, which are most of the JSON.
    changed = {name for name in TrainingRunStatus.model_fields if getattr(before, name) != getattr(after, name)}
    return _merge_patch(_json(before, changed), _json(after, changed)) if changed else {}


def first(after: TrainingRunStatus) -> dict[str, Any]:
    """The same for an object that has none yet, whose defaults shall be seen as well."""
    return {key: value for key, value in _json(after).items() if value is not None}


def can_wait(patch: dict[str, Any]) -> bool:
    """Whether only figures changed."""
    return patch.keys() <= FIGURES


def with_condition(
    status: TrainingRunStatus, *, kind: str, value: str, reason: str, message: str, generation: int, now: datetime
) -> TrainingRunStatus:
    """`status` with this condition instead of the one of its type."""
    before = next((one for one in status.conditions if one.type == kind), None)
    since = before.last_transition_time if before is not None and before.status == value else now
    made = Condition(
        type=kind,
        status=value,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )
    if before is None:
        return status.model_copy(update={"conditions": [*status.conditions, made]})
    return status.model_copy(update={"conditions": [made if one.type == kind else one for one in status.conditions]})


def _json(status: TrainingRunStatus, fields: set[str] | None = None) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, include=fields)


def _merge_patch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Dicts are merged, so what is gone has to be said; lists are replaced."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        old = before.get(key)
        if value == old:
            continue
        if isinstance(value, dict) and isinstance(old, dict):
            patch[key] = _merge_patch(old, value)
        else:
            patch[key] = value
    return patch
