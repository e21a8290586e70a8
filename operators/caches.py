"""What the watches have seen: runs, jobs, pods and nodes, with the indexes by which they belong together.

Lives on the event loop's thread; `watches` hands records over, `observe` reads. Whatever changes a run's facts names
the run to `changed`, and only then: most events of a cluster concern no run, or nothing that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from operators.api import JobKind, TrainingRun
from operators.backends.backend import JobRecord
from operators.records import InvalidRun, JobKey, NodeRecord, PodRecord, RunKey

Run = TrainingRun | InvalidRun
Record = Run | JobRecord | PodRecord | NodeRecord
_K = TypeVar("_K")


class Caches:
    """All records, by kind."""

    def __init__(self, changed: Callable[[RunKey, bool], None]) -> None:
        """`changed(run, pods)`: something of this run is new; pods: it is its pods."""
        self.runs: dict[RunKey, Run] = {}
        self.jobs: dict[JobKey, JobRecord] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.pods: dict[str, PodRecord] = {}
        self.gone_since: dict[str, datetime] = {}
        """Nodes that are gone, and since when; kept while pods are bound to them."""
        self.revision = 0
        """Rises with everything that room depends on."""
        self._changed = changed
        self._runs_of: dict[JobKey, set[RunKey]] = {}
        self._places: dict[tuple[JobKind, str], set[str]] = {}
        self._workers: dict[JobKey, dict[str, PodRecord]] = {}
        self._desks: dict[tuple[str, str], dict[str, PodRecord]] = {}
        self._on_node: dict[str, dict[str, PodRecord]] = {}

    # Reading ----------------------------------------------------------------------------------------------------------

    def runs_of(self, job: JobKey) -> list[TrainingRun]:
        """Valid runs that name this job."""
        found = (self.runs.get(key) for key in self._runs_of.get(job, ()))
        return [run for run in found if isinstance(run, TrainingRun)]

    def namespaces_of(self, kind: JobKind, name: str) -> list[str]:
        """Namespaces that have a job of this name."""
        return sorted(self._places.get((kind, name), ()))

    def workers_of(self, record: JobRecord) -> list[PodRecord]:
        """Worker pods of a job: not those of one before it with the same name."""
        return [
            pod
            for pod in self._workers.get(record.key, {}).values()
            if (not pod.owner_uid or pod.owner_uid == record.job.uid)
            and (not pod.ray_cluster or not record.cluster or pod.ray_cluster == record.cluster or _deleting(pod))
        ]

    def desk_of(self, job: JobKey) -> PodRecord | None:
        """The pod that serves a job's /status: the newest that stays."""
        found = self._desks.get((job.namespace, job.name), {}).values()
        return max(found, key=lambda pod: (not _deleting(pod), _born(pod)), default=None)

    def places(self) -> Iterator[tuple[NodeRecord, Iterable[PodRecord]]]:
        """Nodes with what is bound to them."""
        for name, node in self.nodes.items():
            yield node, self._on_node.get(name, {}).values()

    # Writing ----------------------------------------------------------------------------------------------------------

    def put(self, record: Record, *, known: bool = False) -> None:
        """A watch, or an answer of the API server, told of an object; known: only where it is here already."""
        before = self._find(record)
        if (before is None and known) or (before is not None and not _newer(record, before)):
            return
        if isinstance(record, PodRecord):
            self._put_pod(record, before)
        elif isinstance(record, NodeRecord):
            self._put_node(record, before)
        elif isinstance(record, JobRecord):
            self._put_job(record, before)
        else:
            self._put_run(record, before)

    def remove(self, record: Record, now: datetime) -> None:
        """An object is gone."""
        found = self._find(record)
        if found is None or identity(found) != identity(record):
            return
        if isinstance(found, PodRecord):
            self._drop_pod(found)
        elif isinstance(found, NodeRecord):
            del self.nodes[found.name]
            if found.name in self._on_node:
                self.gone_since[found.name] = now
            self._touch_node(found.name)
        elif isinstance(found, JobRecord):
            del self.jobs[found.key]
            self._places[found.key.kind, found.key.name].discard(found.key.namespace)
            self._touch_job(found.key)
        else:
            key = (found.namespace, found.name)
            del self.runs[key]
            self._unlink(found)
            self._changed(key, False)

    def marked(self, uid: str) -> None:
        """A pod was deleted by us; its watch says so a moment later."""
        pod = self.pods.get(uid)
        if pod is not None and pod.worker is not None:
            self._put_pod(replace(pod, worker=replace(pod.worker, deleting=True)), pod)

    def sweep(self, present: Container[str], records: Iterable[Record], now: datetime) -> int:
        """Remove those of `records` that the API server no longer has; how many. Watches miss the ends of objects that
        went while they were interrupted."""
        lost = [record for record in list(records) if identity(record) not in present]
        for record in lost:
            self.remove(record, now)
        return len(lost)

    # Inside -----------------------------------------------------------------------------------------------------------

    def _find(self, record: Record) -> Record | None:
        if isinstance(record, PodRecord):
            return self.pods.get(record.uid)
        if isinstance(record, NodeRecord):
            return self.nodes.get(record.name)
        if isinstance(record, JobRecord):
            return self.jobs.get(record.key)
        return self.runs.get((record.namespace, record.name))

    def _put_run(self, run: Run, before: Record | None) -> None:
        key = (run.namespace, run.name)
        # Its status is this operator's own word: a pass for each write would hold up those for news.
        same = _same(run, before)
        if isinstance(before, TrainingRun | InvalidRun) and not same:
            self._unlink(before)
        self.runs[key] = run
        if same:
            return
        if isinstance(run, TrainingRun):
            job = job_key(run)
            self._runs_of.setdefault(job, set()).add(key)
            if before is None:
                self._touch_job(job)  # another one may have lost its say
        self._changed(key, False)

    def _unlink(self, run: Run) -> None:
        if isinstance(run, TrainingRun):
            job = job_key(run)
            self._runs_of.get(job, set()).discard((run.namespace, run.name))
            self._touch_job(job)
            if not self._runs_of.get(job):
                self._runs_of.pop(job, None)

    def _put_job(self, record: JobRecord, before: Record | None) -> None:
        self.jobs[record.key] = record
        self._places.setdefault((record.key.kind, record.key.name), set()).add(record.key.namespace)
        if not _same(record, before):
            self._touch_job(record.key)

    def _put_pod(self, pod: PodRecord, before: Record | None) -> None:
        news = before != pod
        if isinstance(before, PodRecord) and news:
            self._drop_pod(before, touch=False)
        self.pods[pod.uid] = pod
        if pod.node is not None:
            self._on_node.setdefault(pod.node, {})[pod.uid] = pod
        if pod.job is not None:
            self._workers.setdefault(pod.job, {})[pod.uid] = pod
        if pod.coordinator_of is not None:
            self._desks.setdefault((pod.namespace, pod.coordinator_of), {})[pod.uid] = pod
        if news:  # else a newer version alone, upon which alone it can be deleted
            self.revision += 1
            self._touch_pod(pod)

    def _drop_pod(self, pod: PodRecord, *, touch: bool = True) -> None:
        del self.pods[pod.uid]
        if pod.node is not None:
            _discard(self._on_node, pod.node, pod.uid)
            if pod.node not in self._on_node:
                self.gone_since.pop(pod.node, None)
        if pod.job is not None:
            _discard(self._workers, pod.job, pod.uid)
        if pod.coordinator_of is not None:
            _discard(self._desks, (pod.namespace, pod.coordinator_of), pod.uid)
        if touch:
            self.revision += 1
            self._touch_pod(pod)

    def _put_node(self, node: NodeRecord, before: Record | None) -> None:
        self.nodes[node.name] = node
        self.gone_since.pop(node.name, None)
        if node != before:
            self.revision += 1
        if not isinstance(before, NodeRecord) or node.ready != before.ready:
            self._touch_node(node.name)

    def _touch_pod(self, pod: PodRecord) -> None:
        if pod.job is not None:
            self._touch_job(pod.job, pods=True)
        if pod.coordinator_of is not None:
            for kind in JobKind:
                self._touch_job(JobKey(kind, pod.namespace, pod.coordinator_of), pods=True)

    def _touch_node(self, name: str) -> None:
        self.revision += 1
        for job in {pod.job for pod in self._on_node.get(name, {}).values() if pod.job is not None}:
            self._touch_job(job)

    def _touch_job(self, job: JobKey, *, pods: bool = False) -> None:
        for key in tuple(self._runs_of.get(job, ())):
            self._changed(key, pods)


def job_key(run: TrainingRun) -> JobKey:
    """The job that a run names."""
    return JobKey(run.spec.job_ref.kind, run.namespace, run.spec.job_ref.name)


def identity(record: Record) -> str:
    """Its UID; a node's is its name, for a node that comes back is the same one."""
    if isinstance(record, JobRecord):
        return record.job.uid
    return record.name if isinstance(record, NodeRecord) else record.uid


def version(record: Record) -> str:
    """Its resource version."""
    return record.job.resource_version if isinstance(record, JobRecord) else record.resource_version


def _newer(record: Record, before: Record) -> bool:
    """Answers and watches cross; resource versions of one kind are numbers that rise."""
    try:
        return identity(record) != identity(before) or int(version(record)) >= int(version(before))
    except ValueError:
        return True


def _same(record: Run | JobRecord, before: Record | None) -> bool:
    """Equal but for the resource version, and a run's status."""
    if isinstance(record, JobRecord):
        if not isinstance(before, JobRecord):
            return False
        job = replace(record.job, resource_version=before.job.resource_version)
        return replace(record, job=job) == before
    if isinstance(record, InvalidRun):
        return record == before
    return isinstance(before, TrainingRun) and before == record.model_copy(
        update={"resource_version": before.resource_version, "status": before.status}
    )


def _deleting(pod: PodRecord) -> bool:
    return pod.worker is not None and pod.worker.deleting


def _born(pod: PodRecord) -> str:
    return str(pod.worker.created_at) if pod.worker is not None else ""


def _discard(index: dict[_K, dict[str, PodRecord]], key: _K, uid: str) -> None:
    index[key].pop(uid, None)
    if not index[key]:
        del index[key]
