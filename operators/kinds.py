"""The kinds of object that the operator watches: where each stands in the API, and what is kept of it.

`watches` runs a watch for each; `apply` writes to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from operators.api import GROUP, PLURAL, VERSION, JobKind
from operators.backends import BACKENDS
from operators.backends.backend import JobRecord, Resource
from operators.caches import Caches, Record
from operators.records import node_record, pod_record, run_record

RUNS = Resource(GROUP, VERSION, PLURAL)
PODS = Resource("", "v1", "pods")
NODES = Resource("", "v1", "nodes")


@dataclass(frozen=True)
class Kind:
    """A kind that is watched."""

    resource: Resource
    record: Callable[[dict[str, Any]], Record]
    records: Callable[[Caches], Iterable[Record]]
    """Those of this kind that the caches have."""
    namespaced: bool = True


def kinds() -> list[Kind]:
    """All that are watched."""
    jobs = [Kind(backend.resource, backend.record, _of_kind(backend.kind)) for backend in BACKENDS.values()]
    return [
        Kind(RUNS, run_record, lambda caches: caches.runs.values()),
        *jobs,
        Kind(PODS, pod_record, lambda caches: caches.pods.values()),
        Kind(NODES, node_record, lambda caches: caches.nodes.values(), namespaced=False),
    ]


def _of_kind(kind: JobKind) -> Callable[[Caches], Iterable[JobRecord]]:
    return lambda caches: [record for key, record in caches.jobs.items() if key.kind is kind]
