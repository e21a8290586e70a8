"""Whose log is rank 0's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from trainer.jobs.rank0 import host_of_rank_0, pod_of_rank_0
from trainer.jobs.state import Pod

START = datetime(2026, 1, 1, tzinfo=UTC)
PODS = [
    Pod(f"run-worker-{i}", f"uid-{i}", "worker", "pytorch", START, index=i, host_names=(f"run-worker-{i}",))
    for i in (2, 0, 1)
]
COORDINATOR = Pod("run-coordinator-x", "uid-c", "coordinator", "coordinator", START)


def document(*members: tuple[str, int | None], world_size: int = 3) -> dict[str, Any]:
    return {"world_size": world_size, "members": [{"host": host, "rank": rank} for host, rank in members]}


def test_the_member_with_rank_0_has_the_log() -> None:
    found = document(("run-worker-0", 2), ("run-worker-2", 0), ("run-worker-1", None))
    assert host_of_rank_0(found) == "run-worker-2"
    pod, certain = pod_of_rank_0(found, [COORDINATOR, *PODS])
    assert (pod, certain) == (PODS[0], True)


def test_without_ranks_the_first_member_of_a_round() -> None:
    found: dict[str, Any] = {"world_size": 2, "members": [{"host": "run-worker-1"}, {"host": "run-worker-0"}]}
    assert host_of_rank_0(found) == "run-worker-1"
    assert host_of_rank_0({**found, "world_size": 0}) is None


def test_worker_0_before_a_round() -> None:
    for found in (None, {}, {"world_size": 0, "members": []}, document(("elsewhere", 0))):
        pod, certain = pod_of_rank_0(found, [COORDINATOR, *PODS])
        assert pod is not None
        assert (pod.name, certain) == ("run-worker-0", False)


def test_no_worker_yet() -> None:
    assert pod_of_rank_0(None, [COORDINATOR]) == (None, False)


def test_on_the_nodes_network_the_pod_that_is_there_now() -> None:
    gone = replace(PODS[1], uid="old", host_names=("run-worker-0", "node-7"), leaving=True, created=START)
    here = replace(gone, uid="new", leaving=False, created=START + timedelta(seconds=5))
    pod, certain = pod_of_rank_0(document(("node-7", 0)), [gone, here])
    assert pod is here
    assert certain
