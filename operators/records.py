"""What is kept of pods and nodes: the few fields that decisions need, out of the API server's JSON.

A cluster has many times more pods than runs have, so records are small: no labels, no specs, equal amounts shared.
Called by `watches` on the watches' own threads.
"""

from __future__ import annotations

import re
import sys
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from operators.api import COMPONENT_LABEL, JobKind, TrainingRun, parse
from operators.observed import Exit, Pod
from operators.room import Amounts, Place, place_of, requests_of

INSTANCE_LABEL = "app.kubernetes.io/instance"
RAY_CLUSTER_LABEL, RAY_NODE_TYPE_LABEL = "ray.io/cluster", "ray.io/node-type"
# Containers that train, by the two operators' conventions; in other pods the first one counts.
_TRAINERS = ("pytorch", "ray-worker", "ray-head", "coordinator")
# KubeRay names a job's clusters NAME-xxxxx, before 1.4 NAME-raycluster-xxxxx.
_RAY_CLUSTER = re.compile(r"(?P<job>.+?)(-raycluster)?-[a-z0-9]{5}")
# Reasons with which a container waits in the ordinary course of things.
_USUAL = {"ContainerCreating", "PodInitializing", "CrashLoopBackOff"}
_MESSAGE_CHARACTERS = 2000

RunKey = tuple[str, str]
"""Namespace and name of a TrainingRun."""


@dataclass(frozen=True, slots=True)
class JobKey:
    """What a jobRef names."""

    kind: JobKind
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod of the cluster."""

    namespace: str
    name: str
    uid: str
    resource_version: str = field(compare=False)
    node: str | None = None
    over: bool = False
    """Succeeded or Failed: it takes no room."""
    requests: Amounts = ()
    job: JobKey | None = None
    """Of a worker."""
    owner_uid: str = ""
    ray_cluster: str = ""
    coordinator_of: str | None = None
    """Name of the job whose front desk it is."""
    worker: Pod | None = None
    """How a worker, or a coordinator, is."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node of the cluster."""

    name: str
    resource_version: str = field(compare=False)
    ready: bool
    not_ready_since: datetime | None
    place: Place


@dataclass(frozen=True, slots=True)
class InvalidRun:
    """A TrainingRun that an older or foreign CRD let through."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str = field(compare=False)
    message: str
    status: dict[str, Any] = field(default_factory=dict)


_shared: dict[Amounts, Amounts] = {}


def turn_of(key: RunKey) -> float:
    """A run's own place within an interval, 0 to 1, the same at each start of the operator."""
    return zlib.crc32("/".join(key).encode()) / 2**32


def run_record(body: dict[str, Any]) -> TrainingRun | InvalidRun:
    """A TrainingRun, or what is wrong with it."""
    try:
        return parse(body)
    except ValidationError as error:
        meta = body["metadata"]
        found = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg'].lower()}, found {str(one['input'])[:80]!r}"
            for one in error.errors(include_url=False)[:5]
        )
        return InvalidRun(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            generation=meta.get("generation", 0),
            resource_version=meta["resourceVersion"],
            message=f"{found}. Correct the TrainingRun, and apply the CustomResourceDefinition of this version, which "
            "refuses such values.",
            status=body.get("status") or {},
        )


def pod_record(body: dict[str, Any]) -> PodRecord:
    """Of any pod of the cluster."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    labels = meta.get("labels") or {}
    namespace = sys.intern(meta["namespace"])
    owner: dict[str, Any] = next((one for one in meta.get("ownerReferences") or () if one.get("controller")), {})
    job, ray_cluster = None, ""
    if owner.get("kind") == JobKind.PYTORCH_JOB:
        job = JobKey(JobKind.PYTORCH_JOB, namespace, owner["name"])
    elif labels.get(RAY_NODE_TYPE_LABEL) == "worker":
        ray_cluster = labels.get(RAY_CLUSTER_LABEL, "")
        job = ray_job(namespace, ray_cluster)
    front_desk = labels.get(COMPONENT_LABEL) == "coordinator"
    over = status.get("phase") in ("Succeeded", "Failed")
    requests = () if over else requests_of(spec)
    return PodRecord(
        namespace=namespace,
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        node=sys.intern(spec["nodeName"]) if spec.get("nodeName") else None,
        over=over,
        requests=_shared.setdefault(requests, requests),
        job=job,
        owner_uid=owner.get("uid", "") if job is not None and not ray_cluster else "",
        ray_cluster=ray_cluster,
        coordinator_of=labels.get(INSTANCE_LABEL) if front_desk else None,
        worker=_pod(meta, spec, status) if job is not None or front_desk else None,
    )


def ray_job(namespace: str, cluster: str) -> JobKey | None:
    """The RayJob that KubeRay made this RayCluster for, by its name."""
    found = _RAY_CLUSTER.fullmatch(cluster)
    return JobKey(JobKind.RAY_JOB, namespace, found["job"]) if found else None


def node_record(body: dict[str, Any]) -> NodeRecord:
    """Of any node of the cluster."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    condition: dict[str, Any] = next((one for one in conditions if one["type"] == "Ready"), {})
    ready = condition.get("status") == "True"
    return NodeRecord(
        name=sys.intern(body["metadata"]["name"]),
        resource_version=body["metadata"]["resourceVersion"],
        ready=ready,
        not_ready_since=None if ready else time_of(condition.get("lastTransitionTime")),
        place=place_of(body, ready=ready),
    )


def time_of(text: str | None) -> datetime | None:
    """A time of the API server."""
    return datetime.fromisoformat(text) if text else None


def _pod(meta: dict[str, Any], spec: dict[str, Any], status: dict[str, Any]) -> Pod:
    containers = status.get("containerStatuses") or []
    container: dict[str, Any] = next(
        (one for one in containers if one["name"] in _TRAINERS), containers[0] if containers else {}
    )
    state = container.get("state") or {}
    scheduled: dict[str, Any] = next(
        (one for one in status.get("conditions") or () if one["type"] == "PodScheduled"), {}
    )
    homeless = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        phase=status.get("phase") or "Pending",
        node=spec.get("nodeName"),
        created_at=time_of(meta.get("creationTimestamp")),
        running_since=time_of((state.get("running") or {}).get("startedAt")),
        unschedulable_since=time_of(scheduled.get("lastTransitionTime")) if homeless else None,
        trouble=_trouble([*(status.get("initContainerStatuses") or ()), *containers]),
        deleting="deletionTimestamp" in meta,
        restarts=container.get("restartCount", 0),
        exit=_exit(container),
    )


def _trouble(containers: list[dict[str, Any]]) -> str | None:
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason and reason not in _USUAL:
            return f"{reason}: {waiting['message']}"[:_MESSAGE_CHARACTERS] if waiting.get("message") else str(reason)
    return None


def _exit(container: dict[str, Any]) -> Exit | None:
    """The newest end: of the container that is there, or of the one before it."""
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        ended = state.get("terminated")
        when = time_of(ended.get("finishedAt")) if ended else None
        if ended and when is not None:
            return Exit(ended["exitCode"], when, (ended.get("message") or "").strip()[:_MESSAGE_CHARACTERS])
    return None
