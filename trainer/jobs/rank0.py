"""Which pod's log is that of rank 0. Pure; called by `trainer.jobs.logs` through the back-ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.jobs.state import WORKER, Pod


def pod_of_rank_0(document: dict[str, Any] | None, pods: Sequence[Pod]) -> tuple[Pod | None, bool]:
    """The worker pod whose launcher holds rank 0, and whether /status says so; else worker-0, as a guess."""
    workers = [pod for pod in pods if pod.component == WORKER]
    host = host_of_rank_0(document)
    # On the nodes' network, without GPTRUN_POD, the name is the node's: a pod that went before may have had the same.
    named = [pod for pod in workers if host in pod.host_names]
    if named:
        return max(named, key=lambda pod: (not pod.leaving, pod.created)), True
    first = min(workers, key=lambda pod: (pod.index is None, pod.index or 0, pod.name), default=None)
    return first, False


def host_of_rank_0(document: dict[str, Any] | None) -> str | None:
    """The machine of rank 0 by a /status document; None while there is no round."""
    members = (document or {}).get("members") or []
    ranked = [member for member in members if member.get("rank") is not None]
    if ranked:
        return str(min(ranked, key=lambda member: int(member["rank"]))["host"])
    # A coordinator that tells no ranks lists those first that came first, and these have the lowest.
    if members and (document or {}).get("world_size"):
        return str(members[0]["host"])
    return None
