"""What the operator needs of a kind of job, and what the kinds share.

A backend turns the API server's JSON into a `Job`, and what is to be done to it into patches; it calls nobody.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

from operators.api import QUEUE_LABEL, JobKind
from operators.observed import Job
from operators.records import JobKey
from operators.room import Shape

MERGE_PATCH, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
RUN_SHA_ANNOTATION = "gptrun.io/run-sha256"
# Which suspension of this operator's a job was last suspended for.
MARK_ANNOTATION = "gptrun.io/suspended-for"


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API server's paths have it."""

    group: str
    version: str
    plural: str

    @property
    def base(self) -> str:
        """Where its group says what it has."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Of one object, or of all of a namespace or the cluster."""
        place = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (f"{self.base}{place}/{self.plural}", name, subresource) if part)


@dataclass(frozen=True)
class JobRecord:
    """What is kept of a job."""

    key: JobKey
    job: Job
    shape: Shape | None
    """Of its worker pods, for room."""
    cluster: str = ""
    """A RayJob's RayCluster, while it has one."""


@dataclass(frozen=True)
class Patch:
    """A change of one object."""

    resource: Resource
    name: str
    body: Any
    content_type: str = MERGE_PATCH


class Backend(Protocol):
    """What the operator needs of a kind of job."""

    kind: JobKind
    resource: Resource

    def record(self, body: dict[str, Any]) -> JobRecord:
        """Of the API server's JSON. KeyError, TypeError or ValueError for one that is no such job."""

    def scale(self, record: JobRecord, replicas: int, resource_version: str) -> list[Patch]:
        """Changes that set the number of workers, the last one conditional on the job's resource version."""

    def suspend(self, record: JobRecord, mark: str | None, resource_version: str) -> list[Patch]:
        """Changes that suspend it and leave the mark, or resume it (None), likewise."""


def fingerprint(body: dict[str, Any], *parts: Any) -> str:
    """What a job's pods are made of: its parts that matter, and the run file that the chart has made for it."""
    file = (body["metadata"].get("annotations") or {}).get(RUN_SHA_ANNOTATION)
    return hashlib.sha256(json.dumps([file, *parts], sort_keys=True).encode()).hexdigest()[:16]


def conditional(resource_version: str, mark: str | None) -> dict[str, Any]:
    """The metadata of a patch that suspends or resumes."""
    return {"resourceVersion": resource_version, "annotations": {MARK_ANNOTATION: mark}}


def mark_of(body: dict[str, Any]) -> str:
    """The mark that a suspension of ours has left."""
    return str((body["metadata"].get("annotations") or {}).get(MARK_ANNOTATION) or "")


def queue_of(body: dict[str, Any]) -> str | None:
    """Kueue's queue of a job."""
    found: str | None = (body["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    return found
