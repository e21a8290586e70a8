"""A case of the decision table, and what several tables have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from operators.observed import Observed
from tests.unit.operators.worlds import job, mark, suspension


@dataclass(frozen=True)
class Case:
    """One picture and what follows from it."""

    name: str
    seen: Observed
    actions: tuple[str, ...] = ()
    phase: str = "Running"
    conditions: dict[str, str] = field(default_factory=dict)
    """Type -> status and reason."""
    says: tuple[str, ...] = ()
    """Words that an action's message or a condition's has."""
    look_again: float | None = None
    """Seconds; None: not checked."""


GONE: dict[str, Any] = {"pods": (), "coordinator": None}
"""No pod runs, and nobody answers."""
KUEUE: dict[str, Any] = {"queue": "team-a"}
HELD: dict[str, Any] = {"suspension": suspension()}
"""This operator has suspended the job, and has seen that it is."""
SUSPENDED: dict[str, Any] = {"job": job(suspend=True, generation=6, mark=mark()), **GONE}
