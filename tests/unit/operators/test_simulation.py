"""Decisions in a little cluster under random faults, old news and an operator that dies at any point.

Never: a size out of bounds, a forced delete of what answers, a thing done twice, a charge for what is no failure.
Always, once the faults end: the run trains at the size that is wanted, or a condition says why not; and nothing more is
done then.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.actions import ActionReason, DeletePod, Scale, Suspend
from operators.decide import decide
from tests.unit.operators.simulation import MOST_LAG, Cluster, Did
from trainer.elastic.reasons import Reason

SPEC: dict[str, Any] = {
    "elastic": {"min": 2, "max": 8},
    "hang": {"seconds": 30},
    "restart": {"failures": 2, "windowSeconds": 600},
}
FOLLOW = {"elastic": {"min": 2, "max": 8, "capacity": {"enabled": True, "pendingSeconds": 60, "growSeconds": 20}}}
COUNTED = (Reason.WORKER_FAILED, Reason.HUNG, Reason.NON_FINITE_LOSS, Reason.OUT_OF_MEMORY)
FREE = (Reason.PREEMPTED, Reason.SCALED, Reason.NODE_LOST)
FAULTS = (
    "lose", "cut-off", "give-back", "freeze", "crash", "killed", "fail", "free", "remove", "scale", "no-wish",
    "scale-job", "suspend", "go-on", "suspend-job", "resume-job", "break", "mend", "take-room", "free-room",
    "refuse", "coordinator-away", "coordinator-back", "replace-coordinator", "lag", "no-lag", "clock",
    "kill-operator", "die-between", "admit", "evict",
)  # fmt: skip


def strike(cluster: Cluster, fault: str, number: int) -> None:
    """One thing that happens; number picks which pod, node or size."""
    pod = sorted(cluster.units)[number % len(cluster.units)] if cluster.units else "none"
    node = sorted(cluster.machines)[number % len(cluster.machines)]
    match fault:
        case "lose" | "cut-off":
            cluster.lose(node, dead=fault == "lose")
        case "give-back":
            cluster.give_back(node)
        case "freeze":
            if pod in cluster.units:
                cluster.units[pod].frozen = True
        case "crash" | "killed":
            cluster.fail(pod, 1 if fault == "crash" else 137)
        case "fail":
            cluster.fail_workers(COUNTED[number % len(COUNTED)])
        case "free":
            cluster.fail_workers(FREE[number % len(FREE)])
        case "remove":
            cluster.remove(pod)
        case "scale":
            cluster.edit(replicas=number)
        case "no-wish":
            cluster.edit(replicas=None)
        case "scale-job":
            cluster.edit_job("hand", replicas=number + 1)
        case "suspend" | "go-on":
            cluster.edit(suspend=fault == "suspend")
        case "suspend-job" | "resume-job":
            cluster.edit_job("hand", suspend=fault == "suspend-job")
        case "break" | "mend":
            cluster.config_broken = fault == "break"
            cluster.edit_job("hand", template=f"t{cluster.tick}")
        case "take-room":
            cluster.machines[node].slots = 0
        case "free-room":
            cluster.machines[node].slots, cluster.machines[node].refuses = 2, False
        case "refuse":
            cluster.machines[node].refuses = True
        case "coordinator-away" | "coordinator-back":
            cluster.coordinator_up = fault == "coordinator-back"
        case "replace-coordinator":
            cluster.replace_coordinator()
        case "lag" | "no-lag":
            cluster.lag = number % (MOST_LAG + 1) if fault == "lag" else 0
        case "clock":
            cluster.jump = timedelta(seconds=number - 5)
        case "kill-operator":
            cluster.kill_operator(number)
        case "die-between":
            cluster.dies_after = 0
        case "admit" | "evict":
            cluster.admitted = fault == "admit"
        case _:
            raise AssertionError(fault)


def calm(cluster: Cluster) -> None:
    """Everything is mended, and there is room for all; what people wished for stays."""
    for name, machine in cluster.machines.items():
        cluster.give_back(name)
        machine.slots, machine.refuses = 2, False
    if cluster.config_broken:
        strike(cluster, "mend", 0)
    cluster.coordinator_up, cluster.lag, cluster.jump, cluster.dies_after, cluster.admitted = (
        True,
        1,
        timedelta(0),
        -1,
        True,
    )


def check_actions(did: list[Did]) -> None:
    """What must never happen, of everything that took effect."""
    for one in did:
        action, seen = one.action, one.seen
        elastic = seen.run.spec.elastic
        if isinstance(action, Scale):
            assert elastic.min <= action.replicas <= elastic.max
            reason_of_room = action.reason in (ActionReason.ROOM_APPEARED, ActionReason.PODS_PENDING)
            assert not (reason_of_room and seen.job is not None and seen.job.queue is not None)
        if isinstance(action, DeletePod) and action.force:
            pod = next(pod for pod in seen.pods if pod.uid == action.uid)
            assert pod.node is not None
            assert not seen.nodes[pod.node].ready
            assert seen.coordinator is None or pod.name not in seen.coordinator.members
            assert seen.coordinator is not None or pod.deleting


def check_end(cluster: Cluster) -> None:
    """Training at the size that is wanted, or an explanation that is true."""
    status, spec, job = cluster.run.status, cluster.run.spec, cluster.job
    said = {one.type: one for one in status.conditions}
    explained = said["Progressing"].reason
    if job.queue is not None and (spec.suspend or status.suspension is not None):
        assert said["Healthy"].reason == "QueueOverrules"
    elif job.suspend and cluster.suspended_by == "operator":
        assert status.suspension is not None
        assert said["Progressing"].status == "False"
        assert explained == status.suspension.reason
        assert spec.suspend or explained in ("ConfigInvalid", "BudgetExhausted")
        assert status.phase == ("Failed" if explained == "BudgetExhausted" else "Suspended")
    elif job.suspend:
        assert status.phase == "Suspended"
        assert explained in ("SuspendedByOthers", "Suspended")
    elif cluster.units and all(unit.frozen for unit in cluster.units.values()):
        assert said["Healthy"].reason == "AllLaunchersSilent"
    else:
        assert not spec.suspend
        assert not any(unit.frozen for unit in cluster.units.values())
        assert status.phase == "Running", status
        assert {one.type: one.status for one in status.conditions} == {
            "Ready": "True",
            "Progressing": "True",
            "Checkpointed": "False",
            "Healthy": "True",
            "Succeeded": "False",
            "Failed": "False",
        }
        assert len(cluster.units) == job.replicas == status.workers
        wish = spec.replicas
        if wish is not None:
            wanted = max(2, min(8, wish))
        else:
            wanted = 8 if spec.elastic.capacity.enabled and job.queue is None else job.replicas
        assert job.replicas == wanted or (status.growth_failures >= 4 and 2 <= job.replicas < wanted)


SCHEDULES = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(FAULTS), st.integers(0, 10)), max_size=24)


@given(seed=st.integers(0, 2**32), follow=st.booleans(), queue=st.booleans(), faults=SCHEDULES)
@settings(max_examples=300, deadline=None)
def test_a_run_comes_through(seed: int, follow: bool, queue: bool, faults: list[tuple[int, str, int]]) -> None:
    cluster = Cluster(decide, Random(seed), spec=SPEC | (FOLLOW if follow else {}), queue="q" if queue else None)
    cluster.admitted = queue
    cluster.run_for(10)
    for gap, fault, number in faults:
        strike(cluster, fault, number)
        cluster.run_for(gap)
    calm(cluster)
    cluster.run_for(60)
    before = len(cluster.did)
    cluster.run_for(100)
    check_actions(cluster.did)
    check_end(cluster)
    sizes = [one for one in cluster.did[before:] if isinstance(one.action, Scale)]
    assert len(sizes) <= (2 if follow else 0)
    assert not [one for one in cluster.did if one.tick > cluster.tick - 50 and not isinstance(one.action, Scale)]


BUDGET_FAULTS = (
    *("fail", "fail", "free", "remove", "lose", "give-back", "scale-job"),
    *("lag", "no-lag", "clock", "kill-operator", "die-between"),
)


@given(
    seed=st.integers(0, 2**32),
    faults=st.lists(st.tuples(st.integers(0, 12), st.sampled_from(BUDGET_FAULTS), st.integers(0, 10)), max_size=24),
)
@settings(max_examples=100, deadline=None)
def test_the_budget_is_never_overrun(seed: int, faults: list[tuple[int, str, int]]) -> None:
    cluster = Cluster(decide, Random(seed), spec=SPEC)
    cluster.run_for(10)
    for gap, fault, number in faults:
        strike(cluster, fault, number)
        for _ in range(gap):
            cluster.step()
            # So long at most: the operator is away, comes back, and sees old news.
            assert cluster.overdrawn <= 10 + 2 * MOST_LAG
    cluster.lag = 0
    cluster.run_for(20)
    spent = [one for one in cluster.did if isinstance(one.action, Suspend)]
    assert len(spent) <= 1
    assert cluster.job.suspend == bool(spent)
    assert (cluster.run.status.phase == "Failed") == bool(spent)
    assert cluster.overdrawn == 0


@pytest.mark.parametrize("seed", range(5))
def test_room_that_is_none_is_tried_ever_more_rarely(seed: int) -> None:
    cluster = Cluster(decide, Random(seed), spec=SPEC | FOLLOW)
    for name in ("n2", "n3", "n4"):
        cluster.machines[name].refuses = True
    cluster.run_for(4000)
    check_actions(cluster.did)
    growths = [one.tick for one in cluster.did if one.action.reason is ActionReason.ROOM_APPEARED]
    gaps = [after - before for before, after in pairwise(growths)]
    assert len(growths) >= 5
    assert all(after > before or after >= 720 for before, after in pairwise(gaps)), gaps
    assert len(growths) <= 14


@pytest.mark.parametrize("seed", range(5))
def test_all_room_is_taken_soon_and_then_nothing_more_is_done(seed: int) -> None:
    cluster = Cluster(decide, Random(seed), spec=SPEC | FOLLOW)
    cluster.run_for(40)
    assert cluster.job.replicas == 8
    done = len(cluster.did)
    cluster.run_for(500)
    assert len(cluster.did) == done == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_never_comes_back_holds_nobody_up(seed: int) -> None:
    cluster = Cluster(decide, Random(seed), spec=SPEC)
    cluster.run_for(20)
    node = next(unit.pod.node for unit in cluster.units.values())
    assert node is not None
    cluster.lose(node, dead=True)
    cluster.run_for(10)
    assert all(unit.pod.node != node for unit in cluster.units.values())
    cluster.run_for(10)
    check_actions(cluster.did)
    assert sum(unit.pod.running_since is not None for unit in cluster.units.values()) == 3
    assert not cluster.run.status.failures.times


def test_a_quiet_run_is_looked_at_rarely() -> None:
    cluster = Cluster(decide, Random(1), spec=SPEC)
    cluster.run_for(30)
    decisions = cluster.decisions
    cluster.run_for(1000)
    assert cluster.decisions - decisions <= 150  # one for each time that the job's controller writes
