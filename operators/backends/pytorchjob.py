"""PyTorchJobs, by the training operator."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from operators.api import JobKind
from operators.backends.backend import JobRecord, Patch, Resource, conditional, fingerprint, mark_of, queue_of
from operators.observed import Job
from operators.records import JobKey, time_of
from operators.room import shape_of


class PyTorchJob:
    """Its pods carry its UID as their owner's."""

    kind = JobKind.PYTORCH_JOB
    resource = Resource("kubeflow.org", "v1", "pytorchjobs")

    def record(self, body: dict[str, Any]) -> JobRecord:
        meta, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        replicas = spec["pytorchReplicaSpecs"]
        worker = replicas.get("Worker") or {}
        finished, message, at = _end(status)
        job = Job(
            kind=self.kind,
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
            generation=meta.get("generation", 0),
            created_at=datetime.fromisoformat(meta["creationTimestamp"]),
            replicas=1 if worker.get("replicas") is None else worker["replicas"],
            suspend=bool((spec.get("runPolicy") or {}).get("suspend")),
            template=fingerprint(
                body, {name: one.get("template") for name, one in replicas.items()}, spec.get("nprocPerNode")
            ),
            mark=mark_of(body),
            queue=queue_of(body),
            finished=finished,
            finished_at=time_of(status.get("completionTime")) or at,
            message=message,
            deleting="deletionTimestamp" in meta,
        )
        template = (worker.get("template") or {}).get("spec")
        key = JobKey(self.kind, meta["namespace"], meta["name"])
        return JobRecord(key, job, shape_of(template) if template else None)

    def scale(self, record: JobRecord, replicas: int, resource_version: str) -> list[Patch]:
        spec = {"pytorchReplicaSpecs": {"Worker": {"replicas": replicas}}}
        body = {"metadata": {"resourceVersion": resource_version}, "spec": spec}
        return [Patch(self.resource, record.key.name, body)]

    def suspend(self, record: JobRecord, mark: str | None, resource_version: str) -> list[Patch]:
        spec = {"runPolicy": {"suspend": mark is not None}}
        return [Patch(self.resource, record.key.name, {"metadata": conditional(resource_version, mark), "spec": spec})]


def _end(status: dict[str, Any]) -> tuple[bool | None, str, datetime | None]:
    """Whether the job has succeeded or failed, what its operator says of it, and since when."""
    true = {one["type"]: one for one in status.get("conditions") or () if one.get("status") == "True"}
    for kind, finished in (("Succeeded", True), ("Failed", False)):
        if kind in true:
            return finished, true[kind].get("message") or "", time_of(true[kind].get("lastTransitionTime"))
    newest: dict[str, Any] = max(true.values(), key=lambda one: one.get("lastTransitionTime") or "", default={})
    return None, newest.get("message") or "", None
