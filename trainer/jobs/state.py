"""A run on a cluster, as far as its job object and its pods tell. Pure; every command of `gpt-run job` looks at these.

Back-ends (`trainer.jobs.backends`) make a `JobState` of their kind of object, `trainer.jobs.cluster` a `Pod` of each
pod. What the training itself says is the coordinator's /status document, a plain dict here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, UserError

WORKER = "worker"
# Reasons for which a container waits that do not pass by themselves, or not soon.
_STUCK = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
}


class Phase(StrEnum):
    """Where a run is."""

    QUEUED = "Queued"  # suspended by Kueue until there is room
    PENDING = "Pending"
    RUNNING = "Running"
    DRAINING = "Draining"  # suspended, and its workers still save
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


# What `gpt-run job wait` ends with.
EXIT_CODES = {
    Phase.SUCCEEDED: EXIT_FINISHED,
    Phase.FAILED: EXIT_FAILED,
    Phase.SUSPENDED: EXIT_PREEMPTED,
}


@dataclass(frozen=True)
class JobState:
    """What a job object says."""

    kind: str
    name: str
    phase: Phase
    message: str
    """Why it is in this phase, in its operator's words."""
    replicas: int
    min_replicas: int | None
    max_replicas: int | None
    """None: the object names no bound."""
    uid: str
    suspend: bool = False
    queue: str | None = None
    """Kueue's queue, which then decides when the run is suspended."""
    run_sha256: str | None = None
    """Of the run file that the chart rendered."""
    helm_release: str | None = None
    """Helm's own release, if `helm install` made the object."""
    marked: bool = False
    """Whether our operator has left word on it that it was the one who suspended it last."""

    @property
    def over(self) -> bool:
        """Whether nothing will change any more by itself."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)


@dataclass(frozen=True)
class ContainerEnd:
    """How a container ended."""

    exit_code: int
    message: str
    """Its termination message, or the kubelet's reason."""


@dataclass(frozen=True)
class Pod:
    """What matters of a pod, and of the one container in it that matters."""

    name: str
    uid: str
    component: str
    """The finer of its two component labels: worker, coordinator, submitter, preflight, ..."""
    container: str
    created: datetime
    index: int | None = None
    """Among the workers of a PyTorchJob."""
    host_names: tuple[str, ...] = ()
    """What a launcher in it may call its machine."""
    phase: str = "Pending"
    leaving: bool = False
    started: bool = False
    """Whether its container has run, so that there may be a log."""
    restarts: int = 0
    stuck: tuple[str, str] | None = None
    """Why it does not start: reason and message."""
    end: ContainerEnd | None = None
    """Of the container, or of its run before this one."""


def with_pods(state: JobState, pods: Sequence[Pod]) -> Phase:
    """The phase, seen with the pods: a job counts as suspended for its operator while workers still save."""
    here = [
        pod for pod in pods if pod.component == WORKER and (pod.leaving or pod.phase not in ("Succeeded", "Failed"))
    ]
    if here and state.phase in (Phase.SUSPENDED, Phase.QUEUED):
        return Phase.DRAINING
    return state.phase


def complaints_of(pods: Sequence[Pod]) -> dict[tuple[str, ...], str]:
    """What keeps pods from starting: (pod, reason) -> a line. The words of one reason change: back-offs grow."""
    return {
        (pod.name, pod.stuck[0]): f"{pod.name}: {': '.join(filter(None, pod.stuck))}"
        for pod in pods
        if pod.stuck is not None
    }


def ends_of(pods: Sequence[Pod]) -> list[str]:
    """How containers failed that did, one line each; a preempted one has not."""
    return [
        f"{pod.name} ended with {pod.end.exit_code}" + (f": {pod.end.message}" if pod.end.message else "")
        for pod in pods
        if pod.end is not None and pod.end.exit_code not in (EXIT_FINISHED, EXIT_PREEMPTED)
    ]


def is_stuck(reason: str) -> bool:
    """Whether a container that waits for this reason needs somebody's help."""
    return reason in _STUCK


def check_replicas(state: JobState, wanted: int) -> None:
    """UserError unless a run may have this number of worker pods."""
    low, high = state.min_replicas or 1, state.max_replicas
    bounds = f"{low} to {high} workers" if high is not None else f"{low} workers or more"
    shown = f"{wanted} workers for {state.name}"
    if wanted < 1:
        raise UserError(
            f"{shown}, which would end it as Succeeded",
            expected=bounds,
            fix=f"gpt-run job suspend {state.name} saves and frees every machine",
        )
    if wanted < low or (high is not None and wanted > high):
        raise UserError(
            f"{shown}, whose bounds are {bounds}",
            expected="a number between workers.min and workers.max of its values",
            fix="choose another number, or submit it anew with other bounds",
        )
    refuse_over(state)


def refuse_over(state: JobState) -> None:
    """UserError for a run that nothing can be changed of any more."""
    if state.over:
        raise UserError(f"{state.name} is {state.phase}", expected="a run that is not over", fix="submit another run")
