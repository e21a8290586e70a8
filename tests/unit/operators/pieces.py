"""What the little cluster of `simulation` is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from operators.actions import Action, Decision
from operators.api import TrainingRun, TrainingRunStatus
from operators.observed import Coordinator, Job, Node, Observed, Pod


@dataclass
class Machine:
    """A node; `dead` if nothing on it runs, else only its kubelet is cut off while it is not ready."""

    slots: int = 2
    dead: bool = False
    not_ready_since: datetime | None = None
    refuses: bool = False
    """Counted as room, and yet no pod fits: a volume that cannot be attached there, say."""


@dataclass
class Unit:
    """A pod and its launcher."""

    pod: Pod
    changed: int
    frozen: bool = False
    going_since: int = 0


@dataclass(frozen=True)
class Snapshot:
    """What the watches would tell at one tick."""

    run: TrainingRun
    job: Job | None
    pods: tuple[Pod, ...]
    nodes: dict[str, Node]
    coordinator: Coordinator | None
    room: int


@dataclass
class Operator:
    """One process of the operator: its caches never go back, and what it remembers dies with it."""

    born: int
    seen: dict[str, int] = field(default_factory=dict)
    silent_since: dict[str, datetime] = field(default_factory=dict)
    room_since: datetime | None = None
    answering: tuple[str, datetime] | None = None
    look_at: datetime | None = None
    last: Any = None


@dataclass(frozen=True)
class Plan:
    """What a process of the operator is about to write."""

    seen: Observed
    old_news: bool
    decision: Decision
    written: bool = False
    """Whether the status is, and only the actions are to come."""


@dataclass(frozen=True)
class Did:
    """An action that took effect."""

    tick: int
    action: Action
    seen: Observed
    old_news: bool
    status: TrainingRunStatus
    """That was decided with it."""
