"""What the operator can do to a run: plain values with a reason and a sentence.

`decide` returns them, `apply` does them. Each names what it was decided upon (a resource version, a UID), so that one
decided on old news does nothing, and one done twice is done once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from operators.api import TrainingRunStatus


class ActionReason(StrEnum):
    """Why something is done: in Events and in gptrun_operator_actions_total{reason}."""

    SCALE_REQUESTED = "ScaleRequested"
    OUT_OF_BOUNDS = "OutOfBounds"
    ROOM_APPEARED = "RoomAppeared"
    PODS_PENDING = "PodsPending"
    SUSPEND_REQUESTED = "SuspendRequested"
    RESUME_REQUESTED = "ResumeRequested"
    JOB_CHANGED = "JobChanged"
    CONFIG_INVALID = "ConfigInvalid"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    NODE_LOST = "NodeLost"
    LAUNCHER_SILENT = "LauncherSilent"
    COMPLETED = "Completed"


@dataclass(frozen=True)
class Scale:
    """Set the job's number of worker pods."""

    job_resource_version: str
    before: int
    replicas: int
    reason: ActionReason
    message: str


@dataclass(frozen=True)
class Suspend:
    """Suspend the job; its pods save and go."""

    job_resource_version: str
    reason: ActionReason
    message: str
    mark: str = ""
    """Left on the job, to tell this suspension from one by somebody else at the same moment."""


@dataclass(frozen=True)
class Resume:
    """Let a job go on that was suspended."""

    job_resource_version: str
    reason: ActionReason
    message: str


@dataclass(frozen=True)
class DeletePod:
    """Delete a pod; force: without waiting for its node, which is gone."""

    pod: str
    uid: str
    force: bool
    reason: ActionReason
    message: str
    resource_version: str = ""
    """Of the pod as it was seen: one that is already going is not told again."""


@dataclass(frozen=True)
class DeleteJob:
    """Delete a finished job."""

    uid: str
    reason: ActionReason
    message: str
    job_resource_version: str = ""


Action = Scale | Suspend | Resume | DeletePod | DeleteJob


def verb(action: Action) -> str:
    """As conditions, Events and the metric name it."""
    if isinstance(action, DeletePod):
        return "ForceDeletePod" if action.force else "DeletePod"
    return type(action).__name__


@dataclass(frozen=True)
class Decision:
    """What `decide` wants."""

    status: TrainingRunStatus
    """To be written before the actions are done: it holds what keeps them from being done again."""
    actions: tuple[Action, ...] = ()
    look_again: timedelta | None = None
    """When a window ends: after so long there may be something to do though nothing has changed."""
