"""What one pass knows of a run, worked out once: which pods are lost, which launchers silent, which pods wait.

`decide` gathers these first; nothing here decides anything. Pure: the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from operators.api import TrainingRunSpec, TrainingRunStatus
from operators.observed import Coordinator, Job, Node, Observed, Pod

# An answer older than this says nothing about now, whatever the caller thinks of it.
COORDINATOR_SECONDS = 60.0


@dataclass(frozen=True)
class Facts:
    """One run as it stands, its job found and nobody else's."""

    observed: Observed
    now: datetime
    job: Job
    coordinator: Coordinator | None
    """None: it has not answered lately."""
    running: tuple[Pod, ...]
    """Pods whose container runs and that nobody deletes."""
    alive: tuple[Pod, ...]
    """Pods that will be there a moment from now: neither ended nor being deleted."""
    lost: tuple[Pod, ...]
    """Pods to be deleted by force: their node is gone, and so is their launcher as far as anybody can tell."""
    silent: dict[str, timedelta]
    """Name of a running pod -> since how long the coordinator has not heard its launcher."""
    windows: tuple[datetime, ...]
    """When a pod will have been lost or silent for long enough."""

    @property
    def spec(self) -> TrainingRunSpec:
        """What the run shall be."""
        return self.observed.run.spec

    @property
    def status(self) -> TrainingRunStatus:
        """What was last written."""
        return self.observed.run.status

    @property
    def generation(self) -> int:
        """Of the TrainingRun."""
        return self.observed.run.generation


def gather(observed: Observed, job: Job, now: datetime) -> Facts:
    """The facts of one pass."""
    coordinator = observed.coordinator
    if coordinator is not None and now - coordinator.asked_at > timedelta(seconds=COORDINATOR_SECONDS):
        coordinator = None
    running = tuple(pod for pod in observed.pods if is_running(pod))
    lost, loss_windows = _lost(observed, coordinator, now)
    silent = _silences(observed, coordinator, running, now)
    limit = timedelta(seconds=observed.run.spec.hang.seconds)
    absent = [silence for name, silence in silent.items() if coordinator and name not in coordinator.members]
    hang_windows = [now + limit - silence for silence in absent if silence < limit]
    return Facts(
        observed=observed,
        now=now,
        job=job,
        coordinator=coordinator,
        running=running,
        alive=tuple(pod for pod in observed.pods if not pod.deleting and pod.phase in ("Pending", "Running")),
        lost=lost,
        silent=silent,
        windows=(*loss_windows, *hang_windows),
    )


def is_running(pod: Pod) -> bool:
    """Whether its container runs and will go on running."""
    return pod.phase == "Running" and pod.running_since is not None and not pod.deleting


def node_of(pod: Pod, nodes: dict[str, Node]) -> Node | None:
    """The node that a pod is on; None while it has none, or nothing is known of it."""
    return nodes.get(pod.node) if pod.node is not None else None


def on_lost_node(pod: Pod, nodes: dict[str, Node]) -> bool:
    """Whether its node does not answer, since however short a time."""
    node = node_of(pod, nodes)
    return node is not None and not node.ready


def earliest(times: Iterable[datetime | None]) -> datetime | None:
    """The first of those that are known."""
    return min((time for time in times if time is not None), default=None)


def _lost(observed: Observed, coordinator: Coordinator | None, now: datetime) -> tuple[tuple[Pod, ...], list[datetime]]:
    """Pods whose node has been gone for long enough, and when others' will have been."""
    patience = timedelta(seconds=observed.run.spec.node_loss.seconds)
    lost, windows = [], []
    for pod in sorted(observed.pods, key=lambda pod: pod.name):
        node = node_of(pod, observed.nodes)
        if not patience or node is None or node.ready or node.not_ready_since is None:
            continue
        if not pod.deleting and pod.phase in ("Succeeded", "Failed"):
            continue  # in nobody's way
        if coordinator is None:
            gone = pod.deleting
        else:
            # An answer from before the loss would know the launcher as it was then.
            heard = pod.name in coordinator.members and coordinator.members[pod.name] < patience.total_seconds()
            gone = not heard and coordinator.asked_at >= node.not_ready_since
        if now - node.not_ready_since < patience:
            windows.append(node.not_ready_since + patience)
        elif gone:
            lost.append(pod)
    return tuple(lost), windows


def _silences(
    observed: Observed, coordinator: Coordinator | None, running: tuple[Pod, ...], now: datetime
) -> dict[str, timedelta]:
    """Launchers that are not heard though their container runs on a node that answers."""
    found: dict[str, timedelta] = {}
    if coordinator is None:
        return found
    for pod in running:
        if on_lost_node(pod, observed.nodes):
            continue
        if pod.name in coordinator.members:
            found[pod.name] = timedelta(seconds=coordinator.members[pod.name])
        elif pod.uid in observed.silent_since:
            starts = [observed.silent_since[pod.uid], pod.running_since, coordinator.answering_since]
            found[pod.name] = max(timedelta(0), now - max(start for start in starts if start is not None))
    return found
