"""RayJobs, by KubeRay.

KubeRay makes a RayCluster from the RayJob at each start and follows no later change of its number of workers (seen in
1.6), so a scale changes both: first the cluster, which is no harm to do twice, then the job, which is what counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from operators.api import JobKind
from operators.backends.backend import (
    JSON_PATCH,
    JobRecord,
    Patch,
    Resource,
    conditional,
    fingerprint,
    mark_of,
    queue_of,
)
from operators.observed import Job
from operators.records import JobKey, time_of
from operators.room import shape_of

RAY_CLUSTERS = Resource("ray.io", "v1", "rayclusters")


class RayJob:
    """Its pods are its RayCluster's, whose name begins with its own."""

    kind = JobKind.RAY_JOB
    resource = Resource("ray.io", "v1", "rayjobs")

    def record(self, body: dict[str, Any]) -> JobRecord:
        meta, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        cluster = spec.get("rayClusterSpec") or {}
        groups = cluster.get("workerGroupSpecs") or [{}]
        deployment = status.get("jobDeploymentStatus") or ""
        over = deployment in ("Complete", "Failed")
        job = Job(
            kind=self.kind,
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
            generation=meta.get("generation", 0),
            created_at=datetime.fromisoformat(meta["creationTimestamp"]),
            replicas=groups[0].get("replicas", 1),
            suspend=bool(spec.get("suspend")),
            template=fingerprint(
                body,
                spec.get("entrypoint"),
                (cluster.get("headGroupSpec") or {}).get("template"),
                [group.get("template") for group in groups],
            ),
            mark=mark_of(body),
            queue=queue_of(body),
            finished=(deployment, status.get("jobStatus")) == ("Complete", "SUCCEEDED") if over else None,
            finished_at=time_of(status.get("endTime")) if over else None,
            message=status.get("message") or status.get("reason") or "",
            deleting="deletionTimestamp" in meta,
        )
        template = (groups[0].get("template") or {}).get("spec")
        key = JobKey(self.kind, meta["namespace"], meta["name"])
        return JobRecord(key, job, shape_of(template) if template else None, status.get("rayClusterName") or "")

    def scale(self, record: JobRecord, replicas: int, resource_version: str) -> list[Patch]:
        # Lists: a merge patch would have to hold all of them.
        cluster = [{"op": "add", "path": "/spec/workerGroupSpecs/0/replicas", "value": replicas}]
        job = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/spec/rayClusterSpec/workerGroupSpecs/0/replicas", "value": replicas},
        ]
        first = [Patch(RAY_CLUSTERS, record.cluster, cluster, JSON_PATCH)] if record.cluster else []
        return [*first, Patch(self.resource, record.key.name, job, JSON_PATCH)]

    def suspend(self, record: JobRecord, mark: str | None, resource_version: str) -> list[Patch]:
        body = {"metadata": conditional(resource_version, mark), "spec": {"suspend": mark is not None}}
        return [Patch(self.resource, record.key.name, body)]
