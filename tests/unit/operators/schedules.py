"""What happens to a little cluster, and what must hold of it: at every action, and once everything is mended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from operators.actions import ActionReason, DeleteJob, DeletePod, Resume, Scale, Suspend
from operators.api import JobKind
from operators.observed import Observed
from tests.unit.operators.pieces import Did
from tests.unit.operators.simulation import BEGIN, MOST_LAG, TICK, Cluster
from trainer.elastic.reasons import Reason

SPEC: dict[str, Any] = {
    "elastic": {"min": 2, "max": 8},
    "hang": {"seconds": 30},
    "restart": {"failures": 2, "windowSeconds": 600},
}
FOLLOW = {"elastic": {"min": 2, "max": 8, "capacity": {"enabled": True, "pendingSeconds": 60, "growSeconds": 20}}}
BOUNDS = ((2, 8), (3, 5), (1, 4), (5, 8), (4, 4))
COUNTED = (Reason.WORKER_FAILED, Reason.HUNG, Reason.NON_FINITE_LOSS, Reason.OUT_OF_MEMORY)
FREE = (Reason.PREEMPTED, Reason.SCALED, Reason.NODE_LOST)
FAULTS = (
    "lose", "cut-off", "give-back", "freeze", "crash", "killed", "fail", "free", "remove", "scale", "no-wish",
    "scale-job", "suspend", "go-on", "suspend-job", "resume-job", "break", "mend", "take-room", "free-room",
    "refuse", "coordinator-away", "coordinator-back", "replace-coordinator", "lag", "no-lag", "clock",
    "kill-operator", "die-between", "stall-operator", "meddle", "admit", "evict", "bounds", "reboot", "fail-again",
    "tell-suspend", "tell-resume",
)  # fmt: skip
ENDS = ("succeed", "succeed", "break-down", "keep", "make-anew")
Schedule = list[tuple[int, str, int]]
"""Ticks that follow, what happens, and which pod, node or size it picks."""


def strike(cluster: Cluster, fault: str, number: int) -> None:
    """One thing that happens; number picks which pod, node or size."""
    pod = sorted(cluster.units)[number % len(cluster.units)] if cluster.units else "none"
    node = sorted(cluster.machines)[number % len(cluster.machines)]
    match fault:
        case "lose" | "cut-off":
            cluster.lose(node, dead=fault == "lose")
        case "give-back":
            cluster.give_back(node)
        case "reboot":
            cluster.lose(node, dead=True)
            cluster.give_back(node)
        case "freeze":
            if pod in cluster.units:
                cluster.units[pod].frozen = True
        case "crash" | "killed":
            cluster.fail(pod, 1 if fault == "crash" else 137)
        case "fail":
            cluster.fail_workers(COUNTED[number % len(COUNTED)])
        case "fail-again":
            error = cluster.error
            cluster.fail_workers(error.reason if error is not None and error.reason else COUNTED[0])
        case "free":
            cluster.fail_workers(FREE[number % len(FREE)])
        case "remove":
            cluster.remove(pod)
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
        case "stall-operator":
            cluster.stall_operator(number)
        case "die-between":
            cluster.dies_after = 0
        case _:
            _wish(cluster, fault, number)


def _wish(cluster: Cluster, fault: str, number: int) -> None:
    """What people, queues and the job's controller do."""
    match fault:
        case "scale" | "no-wish":
            cluster.edit(replicas=number if fault == "scale" else None)
        case "bounds":
            low, high = BOUNDS[number % len(BOUNDS)]
            cluster.edit(elastic=cluster.spec["elastic"] | {"min": low, "max": high})
        case "keep":
            cluster.edit(completion={"deleteAfterSeconds": None if number > 7 else 20 * number})
        case "suspend" | "go-on":
            cluster.edit(suspend=fault == "suspend")
        case "scale-job":
            cluster.edit_job("hand", replicas=number + 1)
        case "suspend-job" | "resume-job":
            cluster.edit_job("hand", suspend=fault == "suspend-job")
        case "tell-suspend" | "tell-resume":
            cluster.tell_job(fault == "tell-suspend")
        case "meddle":
            cluster.meddler = True
        case "break" | "mend":
            cluster.config_broken = fault == "break"
            cluster.edit_job("hand", template=f"t{cluster.tick}")
        case "succeed" | "break-down":
            cluster.finish(succeeded=fault == "succeed")
        case "make-anew":
            cluster.make_job_anew()
        case "admit" | "evict":
            cluster.admitted = fault == "admit"
        case _:
            raise AssertionError(fault)


def suffer(cluster: Cluster, faults: Schedule) -> None:
    """A schedule, from a run that has begun to where it ends."""
    cluster.admitted = cluster.job.queue is not None
    cluster.run_for(10)
    for gap, fault, number in faults:
        strike(cluster, fault, number)
        cluster.run_for(gap)


def calm(cluster: Cluster) -> None:
    """Everything is mended, and there is room for all; what people wished for stays."""
    for name, machine in cluster.machines.items():
        cluster.give_back(name)
        machine.slots, machine.refuses = 2, False
    if cluster.config_broken:
        strike(cluster, "mend", 0)
    cluster.coordinator_up, cluster.admitted, cluster.meddler = True, True, False
    cluster.lag, cluster.jump, cluster.dies_after, cluster.stalls = 1, timedelta(0), -1, 0


def check_actions(did: list[Did]) -> None:
    """What must never happen, of everything that took effect."""
    for one in did:
        job = one.seen.job
        assert job is not None
        assert job.finished is None or isinstance(one.action, DeleteJob | DeletePod)
        match one.action:
            case Scale():
                _check_scale(one.action, one.seen)
                held = one.status.suspension
                assert held is None or held.overruled or job.suspend, "scaled while it is to be suspended"
            case Suspend() | Resume():
                assert job.suspend == isinstance(one.action, Resume)
            case DeletePod(force=True):
                _check_forced(one.action, one.seen)
            case DeletePod():
                _check_replaced(one.action, one.seen)
            case DeleteJob():
                after = one.seen.run.spec.completion.delete_after_seconds
                assert job.finished
                assert job.finished_at is not None
                assert after is not None
                # Clocks differ by so much.
                assert BEGIN + one.tick * TICK >= job.finished_at + timedelta(seconds=after - 5)


def _check_scale(action: Scale, seen: Observed) -> None:
    """Within the bounds; for room only what is there, where nobody else sees to it."""
    elastic, job, pods = seen.run.spec.elastic, seen.job, seen.pods
    assert job is not None
    assert elastic.min <= action.replicas <= elastic.max
    assert not (job.suspend and job.kind is JobKind.RAY_JOB)
    assert not (job.suspend and seen.run.spec.replicas is None)
    if action.reason in (ActionReason.ROOM_APPEARED, ActionReason.PODS_PENDING):
        assert job.queue is None
        assert elastic.capacity.enabled
    if action.message.startswith("room for"):
        assert sum(pod.running_since is not None and not pod.deleting for pod in pods) == job.replicas
    if "found no node" in action.message:
        placed = sum(pod.node is not None and not pod.deleting for pod in pods)
        assert action.replicas >= min(job.replicas, placed), "gave up pods that have their nodes"


def _check_forced(action: DeletePod, seen: Observed) -> None:
    """Only of a node that is not ready, and of a launcher that nobody hears."""
    pod = next(pod for pod in seen.pods if pod.uid == action.uid)
    assert pod.node is not None
    assert not seen.nodes[pod.node].ready
    assert seen.coordinator is None or pod.name not in seen.coordinator.members
    assert seen.coordinator is not None or pod.deleting


def _check_replaced(action: DeletePod, seen: Observed) -> None:
    """One at a time, while others are heard, of a run that shall go on."""
    assert seen.job is not None
    assert not seen.job.suspend
    assert seen.coordinator is not None
    assert action.pod not in seen.coordinator.members
    running = {pod.name for pod in seen.pods if pod.running_since is not None and not pod.deleting}
    assert running & seen.coordinator.members.keys(), "none is heard: it is not the launcher's fault"
    assert not [pod for pod in seen.pods if pod.deleting and pod.node is not None and seen.nodes[pod.node].ready]


def check_end(cluster: Cluster) -> None:
    """Training at the size that is wanted, or an explanation that is true."""
    status, spec, job = cluster.run.status, cluster.run.spec, cluster.job
    said = {one.type: one for one in status.conditions}
    explained = said["Progressing"].reason
    if job.finished is not None:
        assert status.phase == ("Succeeded" if job.finished else "Failed")
        assert said["Succeeded"].status == str(job.finished)
        assert said["Failed"].status == str(not job.finished)
        assert cluster.job_gone or not job.finished or spec.completion.delete_after_seconds is None
    elif job.queue is not None and (spec.suspend or status.suspension is not None):
        assert said["Healthy"].reason == "QueueOverrules"
    elif cluster.suspended_by == "operator" or (cluster.suspended_by == "either" and status.suspension is not None):
        assert job.suspend
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
        _check_trains(cluster)


def _check_trains(cluster: Cluster) -> None:
    """As large as is wanted, and everything well."""
    status, spec, job = cluster.run.status, cluster.run.spec, cluster.job
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
    low, high = spec.elastic.min, spec.elastic.max
    if spec.replicas is not None:
        wanted = max(low, min(high, spec.replicas))
    else:
        follows = spec.elastic.capacity.enabled and job.queue is None
        wanted = high if follows else max(low, min(high, job.replicas))
    assert job.replicas == wanted or (status.growth_failures >= 4 and low <= job.replicas < wanted)
