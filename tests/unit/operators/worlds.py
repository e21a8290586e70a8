"""Observations for tests: a run of four pods that trains, and small changes to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from operators.actions import Action, Decision, DeleteJob, DeletePod, Resume, Scale, Suspend
from operators.api import CheckpointStatus, JobKind, TrainingRun, TrainingRunSpec
from operators.observed import Coordinator, Exit, Job, Node, Observed, Pod

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
START = NOW - timedelta(hours=10)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def run(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **changes: Any) -> TrainingRun:
    whole: dict[str, Any] = {
        "jobRef": {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": "demo"},
        "elastic": {"min": 2, "max": 8},
    }
    whole |= spec or {}
    fields: dict[str, Any] = {
        "namespace": "team",
        "name": "demo",
        "uid": "run-uid",
        "generation": 3,
        "resource_version": "900",
        "created_at": START,
    }
    status = {"observedGeneration": 3, "phase": "Running"} | (status or {})
    return TrainingRun(**(fields | changes), spec=TrainingRunSpec.model_validate(whole), status=status)


def job(**changes: Any) -> Job:
    plain = Job(
        kind=JobKind.PYTORCH_JOB,
        name="demo",
        uid="job-uid",
        resource_version="100",
        generation=5,
        created_at=START,
        replicas=4,
        suspend=False,
        template="a",
    )
    return replace(plain, **changes)


def pod(index: int, **changes: Any) -> Pod:
    plain = Pod(
        name=f"demo-worker-{index}",
        uid=f"uid-{index}",
        phase="Running",
        node=f"node-{index}",
        created_at=START,
        running_since=START,
        resource_version=str(index),
    )
    return replace(plain, **changes)


def pods(count: int = 4, **of: Pod) -> tuple[Pod, ...]:
    """Pods 0 to count - 1; p2=... takes the place of the third."""
    return tuple(of.get(f"p{index}", pod(index)) for index in range(count))


def pending(index: int, seconds: float) -> Pod:
    """A pod that has found no node for so long."""
    return pod(index, phase="Pending", node=None, running_since=None, unschedulable_since=ago(seconds))


def ended(index: int, code: int, message: str = "", seconds: float = 5, restarts: int = 0, **changes: Any) -> Pod:
    """A pod whose container ended so long ago and was not started again."""
    end = Exit(code, ago(seconds), message)
    return pod(index, **{"running_since": None, "restarts": restarts, "exit": end} | changes)


def nodes(count: int = 8, **not_ready_seconds: float) -> dict[str, Node]:
    """Nodes 0 to count - 1; n2=30 has not been ready for 30 seconds."""
    found = {f"node-{index}": Node(f"node-{index}", ready=True) for index in range(count)}
    for name, seconds in not_ready_seconds.items():
        found[f"node-{name[1:]}"] = Node(f"node-{name[1:]}", ready=False, not_ready_since=ago(seconds))
    return found


def coordinator(heard: int = 4, **changes: Any) -> Coordinator:
    """One that hears pods 0 to heard - 1."""
    plain = Coordinator(
        asked_at=ago(1),
        pod_uid="c1",
        phase="training",
        members={f"demo-worker-{index}": 0.3 for index in range(heard)},
        step=1200,
        steps_total=5000,
        loss=3.25,
        tokens_per_second=1e5,
        mfu=0.4,
        goodput=0.97,
        last_checkpoint=CheckpointStatus(name="step-00001000-a0001", step=1000),
        attempt=1,
    )
    return replace(plain, **changes)


def world(**changes: Any) -> Observed:
    """A run that trains on four pods, and nothing to do."""
    plain = Observed(run=run(), job=job(), pods=pods(), nodes=nodes(), coordinator=coordinator())
    return replace(plain, **changes)


def suspension(reason: str = "Suspended", **changes: Any) -> dict[str, Any]:
    """`status.suspension`, of the job as it is in `job`, seen suspended in generation 6."""
    plain = {
        "reason": reason,
        "message": "why",
        "time": ago(600),
        "generation": 3,
        "template": "a",
        "jobUid": "job-uid",
        "jobGeneration": 6,
    }
    return plain | changes


def mark(reason: str = "Suspended") -> str:
    """What the suspension above has left on the job."""
    return f"{reason} {ago(600).isoformat(timespec='seconds')}"


def capacity(seconds: float, **changes: Any) -> dict[str, Any]:
    """`status.capacity`: changed so long ago."""
    return {"changedAt": ago(seconds), "limit": 4, "jobGeneration": 4} | changes


def follow(pending_seconds: int = 900, grow_seconds: int = 60) -> dict[str, Any]:
    """`spec.elastic` that follows room."""
    seconds = {"pendingSeconds": pending_seconds, "growSeconds": grow_seconds}
    return {"elastic": {"min": 2, "max": 8, "capacity": {"enabled": True, **seconds}}}


def words(action: Action) -> str:
    """An action in a line, without its message."""
    match action:
        case Scale():
            return f"scale {action.before}->{action.replicas} {action.reason}"
        case Suspend():
            return f"suspend {action.reason}"
        case Resume():
            return f"resume {action.reason}"
        case DeletePod():
            return f"{'force-' if action.force else ''}delete {action.pod} {action.reason}"
        case DeleteJob():
            return f"delete job {action.reason}"


def done(seen: Observed, decision: Decision) -> Observed:
    """The world once the status is written and the actions are done, before anything else stirs."""
    seen = replace(seen, run=seen.run.model_copy(update={"status": decision.status}))
    for action in decision.actions:
        job = seen.job
        assert job is not None
        changed = replace(job, generation=job.generation + 1, resource_version=f"{job.resource_version}1")
        match action:
            case Scale():
                seen = replace(seen, job=replace(changed, replicas=action.replicas))
            case Suspend():
                seen = replace(seen, job=replace(changed, suspend=True, mark=action.mark))
            case Resume():
                seen = replace(seen, job=replace(changed, suspend=False, mark=""))
            case DeletePod(force=True):
                seen = replace(seen, pods=tuple(pod for pod in seen.pods if pod.uid != action.uid))
            case DeletePod():
                going = [replace(pod, deleting=True) if pod.uid == action.uid else pod for pod in seen.pods]
                seen = replace(seen, pods=tuple(going))
            case DeleteJob():
                seen = replace(seen, job=None)
    return seen
