"""Makes `Observed` of the caches and of what coordinators said; keeps what no object of the cluster remembers.

That is: since when a launcher has been silent, and since when there has been room. Both begin anew with each process.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from operators.api import JobKind, TrainingRun
from operators.backends.backend import JobRecord
from operators.caches import Caches, job_key
from operators.coordinators import Question
from operators.observed import Coordinator, Node, Observed, Pod
from operators.records import PodRecord, RunKey
from operators.room import Shape, room

# A member that was heard so lately is no silent one: launchers send several times a second.
_HEARD_SECONDS = 5.0
# Counting what is free on each node is work; the scheduler is no quicker.
_ROOM_SECONDS = 2.0
# A coordinator is asked for so long after the end of its job.
_LAST_WORDS = timedelta(seconds=60)
_log = logging.getLogger(__name__)


class Observer:
    """Snapshots of runs."""

    def __init__(
        self,
        caches: Caches,
        serves: Callable[[JobKind], bool],
        *,
        namespace: str,
        coordinator_url: str,
        silent_after_seconds: float,
    ) -> None:
        """namespace: the only one whose pods are in the caches; empty: all pods are. silent_after_seconds: an answer
        that is older counts for nothing.
        """
        self._caches = caches
        self._serves = serves
        self._namespace = namespace
        self._url = coordinator_url
        self._silent_after = timedelta(seconds=silent_after_seconds)
        self._coordinators: dict[RunKey, Coordinator | None] = {}
        self._silent: dict[RunKey, dict[str, datetime]] = {}
        self._room_since: dict[RunKey, datetime] = {}
        self._rooms: dict[Shape, tuple[datetime, int | None]] = {}
        self._said_no_room = False

    def observe(self, run: TrainingRun, now: datetime) -> Observed:
        """The run and all that belongs to it."""
        key, job = (run.namespace, run.name), job_key(run)
        record = self._caches.jobs.get(job)
        pods = self._pods(record)
        elsewhere = [] if record is not None else self._caches.namespaces_of(job.kind, job.name)
        free = self._room(run, record, pods, now)
        if free is None or free < 1:
            self._room_since.pop(key, None)
        else:
            self._room_since.setdefault(key, now)
        return Observed(
            run=run,
            job=record.job if record is not None else None,
            job_elsewhere=elsewhere[0] if elsewhere else None,
            kind_served=self._serves(job.kind),
            owner=self._owner(run),
            pods=pods,
            nodes={name: self._node(name, now) for name in {pod.node for pod in pods if pod.node is not None}},
            coordinator=self._fresh(key, now),
            silent_since=dict(self._silent.get(key, {})),
            room=free,
            room_since=self._room_since.get(key),
        )

    def question(self, key: RunKey) -> Question | None:
        """Whom to ask for a run's status; None while nobody can know anything."""
        run = self._caches.runs.get(key)
        if not isinstance(run, TrainingRun) or self._owner(run) is not None:
            return None
        record = self._caches.jobs.get(job_key(run))
        if record is None:
            return None
        pod = self._caches.desk_of(record.key)
        # What it says last counts, too: it may stay when the workers have gone.
        if pod is None and (record.job.finished is not None or (record.job.suspend and not self._pods(record))):
            return None
        if record.job.finished_at is not None and datetime.now(UTC) - record.job.finished_at > _LAST_WORDS:
            return None
        # Its counters begin anew with its container.
        life = f"{pod.uid}/{pod.worker.restarts}" if pod is not None and pod.worker is not None else ""
        return Question(self._url.format(name=record.key.name, namespace=record.key.namespace), life)

    def asked(self, key: RunKey) -> bool:
        """Whether its coordinator has been asked, if it can be."""
        return key in self._coordinators or self.question(key) is None

    def heard(self, key: RunKey, coordinator: Coordinator | None) -> None:
        """A coordinator has answered, or not."""
        before = self._coordinators.get(key)
        if coordinator is None:
            # One question that got lost says nothing; what was said before grows old by itself.
            self._coordinators.setdefault(key, None)
            return
        if (
            before is None
            or before.pod_uid != coordinator.pod_uid
            or coordinator.asked_at - before.asked_at > self._silent_after
        ):
            self._coordinators[key] = replace(coordinator, answering_since=coordinator.asked_at)
            self._silent.pop(key, None)  # launchers may still be on their way to it
            return
        self._coordinators[key] = replace(coordinator, answering_since=before.answering_since)
        run = self._caches.runs.get(key)
        record = self._caches.jobs.get(job_key(run)) if isinstance(run, TrainingRun) else None
        self._silent[key] = dict(_silences(self._pods(record), coordinator, self._silent.get(key, {})))

    def forget(self, key: RunKey) -> None:
        """The run is gone."""
        for kept in (self._coordinators, self._silent, self._room_since):
            kept.pop(key, None)

    def follows_capacity(self) -> list[RunKey]:
        """Runs for which it matters what is free."""
        return [
            key
            for key, run in self._caches.runs.items()
            if isinstance(run, TrainingRun) and run.spec.elastic.capacity.enabled
        ]

    def _owner(self, run: TrainingRun) -> str | None:
        """The oldest of the runs with the same job has the say."""
        others = [other for other in self._caches.runs_of(job_key(run)) if not other.deleting]
        first = min(others, key=lambda other: (other.created_at, other.uid), default=run)
        return None if first.uid == run.uid else first.name

    def _pods(self, record: JobRecord | None) -> tuple[Pod, ...]:
        found = self._caches.workers_of(record) if record is not None else []
        return tuple(sorted((pod.worker for pod in found if pod.worker is not None), key=lambda pod: pod.name))

    def _fresh(self, key: RunKey, now: datetime) -> Coordinator | None:
        coordinator = self._coordinators.get(key)
        return coordinator if coordinator is not None and now - coordinator.asked_at <= self._silent_after else None

    def _node(self, name: str, now: datetime) -> Node:
        node = self._caches.nodes.get(name)
        if node is None:
            return Node(name, ready=False, not_ready_since=self._caches.gone_since.setdefault(name, now))
        return Node(name, node.ready, node.not_ready_since)

    def _room(self, run: TrainingRun, record: JobRecord | None, pods: tuple[Pod, ...], now: datetime) -> int | None:
        if not run.spec.elastic.capacity.enabled or record is None or record.shape is None or record.job.queue:
            return None
        if self._namespace:
            # Other namespaces' pods would count as free places, and runs would grow into pods that stay Pending.
            self._say_no_room()
            return None
        measured = self._rooms.get(record.shape)
        if measured is None or now - measured[0] >= timedelta(seconds=_ROOM_SECONDS):
            places = ((node.place, _amounts(bound)) for node, bound in self._caches.places())
            measured = self._rooms[record.shape] = (now, room(record.shape, places))
        waiting = sum(pod.node is None and not pod.deleting for pod in pods)
        return None if measured[1] is None else max(0, measured[1] - waiting)

    def _say_no_room(self) -> None:
        """Once: it is so for every run, and for as long as the process lives."""
        if not self._said_no_room:
            self._said_no_room = True
            _log.warning(
                "elastic.capacity adds no pods: confined to the namespace %s, this operator does not see what other "
                "namespaces' pods take of the nodes; pods that stay Pending are given up all the same, and come back "
                "with another spec.replicas",
                self._namespace,
            )


def _amounts(pods: Iterable[PodRecord]) -> list[tuple[tuple[str, int], ...]]:
    return [pod.requests for pod in pods if not pod.over]


def _silences(
    pods: tuple[Pod, ...], coordinator: Coordinator, before: dict[str, datetime]
) -> Iterable[tuple[str, datetime]]:
    """Pods whose container runs and whose launcher is not heard, and since when."""
    for pod in pods:
        if pod.running_since is None or pod.deleting:
            continue
        seconds = coordinator.members.get(pod.name, math.inf)
        if seconds <= _HEARD_SECONDS:
            continue
        since = coordinator.asked_at
        if math.isfinite(seconds):
            since -= timedelta(seconds=seconds)
        yield pod.uid, max(min(before.get(pod.uid, since), since), pod.running_since)
