"""What `decide` looks at: one run with all that belongs to it, as plain values taken at one moment.

`observe` makes it from the caches of the watches and from the coordinator's answer. Nothing here knows Kubernetes'
JSON, a client or a clock; times are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from operators.api import CheckpointStatus, JobKind, TrainingRun
from trainer.elastic.reasons import Reason


@dataclass(frozen=True)
class Job:
    """A PyTorchJob or RayJob."""

    kind: JobKind
    name: str
    uid: str
    resource_version: str
    generation: int
    """Rises when its spec is changed, by whomever."""
    created_at: datetime
    replicas: int
    suspend: bool
    mark: str = ""
    """Of the suspension that it was last suspended for by this operator (`Suspend.mark`)."""
    template: str = ""
    """Hash of what its pods are made of: another one means that somebody changed the job."""
    queue: str | None = None
    """Kueue's queue that manages it."""
    finished: bool | None = None
    """True: succeeded; False: failed for good; None: neither."""
    finished_at: datetime | None = None
    message: str = ""
    """What its own operator says of it."""
    deleting: bool = False


@dataclass(frozen=True)
class Exit:
    """The newest end of a pod's trainer container."""

    code: int
    time: datetime
    message: str = ""
    """The launcher's own last words."""


@dataclass(frozen=True)
class Pod:
    """A worker pod of the run."""

    name: str
    uid: str
    phase: str
    """Pending | Running | Succeeded | Failed | Unknown."""
    node: str | None = None
    created_at: datetime | None = None
    running_since: datetime | None = None
    """Of its container, while that runs."""
    unschedulable_since: datetime | None = None
    """Since when the scheduler has found no node for it."""
    trouble: str | None = None
    """Why its container cannot start (ImagePullBackOff and the like, with the kubelet's message)."""
    deleting: bool = False
    restarts: int = 0
    """Of its container."""
    exit: Exit | None = None
    resource_version: str = field(default="", compare=False)
    """Upon which it may be deleted; a newer one alone is no news."""


@dataclass(frozen=True)
class Node:
    """A node that one of the run's pods is on."""

    name: str
    ready: bool
    not_ready_since: datetime | None = None
    """Since when; of a node that is gone from the API server, when that was seen."""


@dataclass(frozen=True)
class Error:
    """`last_error` of the coordinator's `/status`."""

    exit_code: int
    reason: Reason | None
    message: str
    time: datetime | None = None


@dataclass(frozen=True)
class Coordinator:
    """The newest answer of the coordinator (of the Ray driver, for a RayJob)."""

    asked_at: datetime
    """When it was got."""
    pod_uid: str
    """Its counters start at 0 with it: its UID, with the number of its container's restarts where there were any."""
    phase: str
    members: dict[str, float] = field(default_factory=dict)
    """Launchers by host (a pod's name) -> seconds since they were heard."""
    restarts: dict[str, int] = field(default_factory=dict)
    """Attempts ended, by reason, since the coordinator's start."""
    last_error: Error | None = None
    step: int | None = None
    steps_total: int | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None
    goodput: float | None = None
    last_checkpoint: CheckpointStatus | None = None
    attempt: int | None = None
    estimated_completion: datetime | None = None
    answering_since: datetime | None = None
    """Since when it has answered; launchers need a moment to find a new one."""


@dataclass(frozen=True)
class Refused:
    """What the API server did not let the operator do when it tried last."""

    action: str
    """As `actions.verb` names it."""
    lacks_right: bool
    """Whether it is the operator's own right that is missing."""
    message: str


@dataclass(frozen=True)
class Observed:
    """One run and all that belongs to it."""

    run: TrainingRun
    job: Job | None
    """None: there is no such job in the run's namespace."""
    job_elsewhere: str | None = None
    """Another namespace that has a job of this kind and name, where `job` is None."""
    kind_served: bool = True
    """Whether the cluster knows the job's kind at all."""
    owner: str | None = None
    """An older TrainingRun with the same job, which has the say."""
    pods: tuple[Pod, ...] = ()
    nodes: dict[str, Node] = field(default_factory=dict)
    coordinator: Coordinator | None = None
    """None: it has not answered lately, or there is none."""
    silent_since: dict[str, datetime] = field(default_factory=dict)
    """Pod UID -> since when its launcher, whose container runs, has been missing among the coordinator's members while
    that answered. Kept by the operator process: after a start of its own the count begins anew."""
    room: int | None = None
    """Worker pods beside those there that the cluster has free room for; None: not known."""
    room_since: datetime | None = None
    """Since when there has been room for at least one."""
    refused: Refused | None = None
    """Kept by the operator process until it is done, or not wanted any more."""
