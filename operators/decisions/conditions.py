"""The status of a run: phase and conditions, each with a reason and a message that says what a person can do.

What the coordinator said last stays while it does not answer or no pod runs. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from operators.actions import Action, verb
from operators.api import COMPONENT_LABEL, Condition, ConditionReason, ConditionType, Phase, TrainingRunStatus
from operators.decisions.facts import Facts, on_lost_node
from operators.decisions.failures import Tally
from operators.decisions.size import Size, clamp
from operators.decisions.suspension import REQUESTED, Standing
from operators.observed import Coordinator, Observed

_TRAINS = ("training", "evaluating", "saving")
_BEFORE_STEPS = ("waiting", "starting", "restoring")
# Fields that the coordinator tells, by the same name in the status.
_TOLD = (
    "step",
    "steps_total",
    "loss",
    "tokens_per_second",
    "mfu",
    "goodput",
    "last_checkpoint",
    "attempt",
    "estimated_completion",
)


@dataclass(frozen=True)
class Said:
    """What one condition says."""

    type: ConditionType
    status: bool | None
    """None: unknown."""
    reason: ConditionReason
    message: str


def of(facts: Facts, tally: Tally, stand: Standing, sized: Size, actions: Sequence[Action]) -> TrainingRunStatus:
    """The status of a run whose job is there; actions: what is to be done about it."""
    phase = _phase(facts, stand)
    said = [
        _ready(facts),
        _progressing(facts, stand, sized),
        _refused(facts, actions) or _healthy(facts, tally, stand),
        *_outcome(facts, stand),
    ]
    carried = _carried(facts.status, facts.coordinator)
    return _with_conditions(
        carried.model_copy(
            update={
                "phase": phase,
                "workers": facts.job.replicas,
                "selector": selector(facts.job.name),
                "restarts": tally.restarts,
                "suspension": stand.suspension,
                "failures": tally.failures,
                "capacity": sized.capacity,
                "growth_failures": sized.growth_failures,
            }
        ),
        said,
        facts.observed,
        facts.now,
    )


def of_no_job(observed: Observed, now: datetime) -> TrainingRunStatus:
    """The status of a run that has no job to look after, or not the say over it."""
    old = observed.run.status
    said = [_no_job(observed)]
    over = old.phase in (Phase.SUCCEEDED, Phase.FAILED) and observed.owner is None
    if not over:
        waits = "nothing is done until the condition Ready is True"
        said += [
            Said(ConditionType.PROGRESSING, False, ConditionReason.NOT_READY, waits),
            Said(ConditionType.HEALTHY, False, said[0].reason, said[0].message),
            Said(ConditionType.SUCCEEDED, False, ConditionReason.NOT_FINISHED, ""),
            Said(ConditionType.FAILED, False, ConditionReason.NOT_FINISHED, ""),
        ]
    update: dict[str, object] = {"phase": old.phase if over else Phase.PENDING}
    if observed.job is None:
        update["workers"] = 0
    elif observed.job.deleting:
        update["phase"] = old.phase if over else Phase.DRAINING
    return _with_conditions(old.model_copy(update=update), said, observed, now)


def selector(job: str) -> str:
    """By which worker pods are found."""
    return f"app.kubernetes.io/instance={job},{COMPONENT_LABEL}=worker"


def silent_pods(facts: Facts) -> list[str]:
    """Running pods whose launcher has been silent for longer than is allowed."""
    limit = timedelta(seconds=facts.spec.hang.seconds)
    return sorted(name for name, silence in facts.silent.items() if limit and silence >= limit)


def all_silent(facts: Facts) -> bool:
    """Whether the coordinator hears none of those that run."""
    heard = facts.coordinator.members if facts.coordinator is not None else {}
    limit = facts.spec.hang.seconds
    return not any(pod.name in heard and heard[pod.name] < limit for pod in facts.running)


def _phase(facts: Facts, stand: Standing) -> Phase:
    job, coordinator = facts.job, facts.coordinator
    if job.finished is not None:
        return Phase.SUCCEEDED if job.finished else Phase.FAILED
    held = stand.suspension if stand.suspension is not None and not stand.suspension.overruled else None
    if held is not None and held.reason == ConditionReason.BUDGET_EXHAUSTED:
        return Phase.FAILED
    if held is not None or job.suspend:
        there = any(pod.phase not in ("Succeeded", "Failed") for pod in facts.observed.pods)
        return Phase.DRAINING if there else Phase.SUSPENDED
    if not facts.running:
        return Phase.PENDING
    # Between two attempts a run is still running; it starts when its pods do.
    was = facts.status.phase
    if coordinator is None:
        return was if was is Phase.RUNNING else Phase.STARTING
    if coordinator.phase in _TRAINS or (was is Phase.RUNNING and coordinator.phase != "waiting"):
        return Phase.RUNNING
    return Phase.STARTING


def _ready(facts: Facts) -> Said:
    elastic, asked, job = facts.spec.elastic, facts.spec.replicas, facts.job
    if elastic.min > elastic.max:
        bounds = f"spec.elastic.min is {elastic.min}, spec.elastic.max is {elastic.max}"
        message = f"{bounds}: nothing is scaled; make min at most max"
        return Said(ConditionType.READY, False, ConditionReason.BOUNDS_INVALID, message)
    if asked is not None and asked != clamp(facts, asked):
        message = (
            f"spec.replicas is {asked}, spec.elastic allows {elastic.min} to {elastic.max}: "
            f"{clamp(facts, asked)} it is; to stop the run set spec.suspend"
        )
        return Said(ConditionType.READY, True, ConditionReason.REPLICAS_CAPPED, message)
    return Said(ConditionType.READY, True, ConditionReason.WATCHING, f"looks after {job.kind} {job.name}")


def _no_job(observed: Observed) -> Said:
    ref, job = observed.run.spec.job_ref, observed.job
    name = f"{ref.kind} {ref.name}"
    if observed.owner is not None:
        message = (
            f"{name} is looked after by the older TrainingRun {observed.owner}: delete one of the two, or name another "
            "job in spec.jobRef"
        )
        return Said(ConditionType.READY, False, ConditionReason.JOB_TAKEN, message)
    if job is not None:
        return Said(ConditionType.READY, False, ConditionReason.JOB_DELETING, f"{name} is being deleted")
    if not observed.kind_served:
        operator = "the Kubeflow training operator" if ref.kind == "PyTorchJob" else "KubeRay"
        message = f"this cluster knows no {ref.kind} ({ref.api_version}): install {operator}"
        return Said(ConditionType.READY, False, ConditionReason.KIND_NOT_SERVED, message)
    if observed.job_elsewhere is not None:
        message = (
            f"namespace {observed.run.namespace} has no {name}, {observed.job_elsewhere} has one: a TrainingRun looks "
            "after a job of its own namespace; make it there"
        )
        return Said(ConditionType.READY, False, ConditionReason.JOB_ELSEWHERE, message)
    if observed.run.status.phase in (Phase.SUCCEEDED, Phase.FAILED):
        message = f"{name} is over and was deleted; its checkpoints are where they were"
        return Said(ConditionType.READY, True, ConditionReason.JOB_DELETED, message)
    message = f"namespace {observed.run.namespace} has no {name}: make it, or correct spec.jobRef"
    return Said(ConditionType.READY, False, ConditionReason.JOB_NOT_FOUND, message)


def _progressing(facts: Facts, stand: Standing, sized: Size) -> Said:
    def said(status: bool | None, reason: ConditionReason, message: str) -> Said:
        return Said(ConditionType.PROGRESSING, status, reason, message)

    job, coordinator, held = facts.job, facts.coordinator, stand.suspension
    if job.finished is not None:
        reason = ConditionReason.COMPLETED if job.finished else ConditionReason.JOB_FAILED
        return said(False, reason, "the job is over")
    if held is not None and not held.overruled:
        return said(False, ConditionReason(held.reason), f"{held.message}. {_how_to_go_on(facts, stand)}")
    if job.suspend:
        who = (
            f"its queue {job.queue} starts it when its turn comes" if job.queue else "set its suspend to false to go on"
        )
        return said(False, ConditionReason.SUSPENDED_BY_OTHERS, f"{job.kind} {job.name} was suspended by others: {who}")
    stuck = [f"pod {pod.name}: {pod.trouble}" for pod in facts.alive if pod.trouble is not None]
    if stuck and not facts.running:
        return said(False, ConditionReason.CANNOT_START, f"no container can start; {stuck[0]}")
    waiting = [pod for pod in facts.alive if pod.unschedulable_since is not None]
    if waiting and len(facts.running) < facts.spec.elastic.min:
        message = (
            f"{len(waiting)} of {job.replicas} pods find no node, {len(facts.running)} run, spec.elastic.min is "
            f"{facts.spec.elastic.min}: it goes on when nodes come"
        )
        return said(True, ConditionReason.WAITING_FOR_ROOM, message)
    if not facts.running:
        return said(True, ConditionReason.WAITING_FOR_PODS, f"none of {job.replicas} pods runs yet")
    if coordinator is None:
        return said(
            None, ConditionReason.COORDINATOR_SILENT, "the coordinator does not answer; training goes on without"
        )
    if coordinator.phase in _BEFORE_STEPS:
        return said(True, ConditionReason.STARTING, "pods run, workers start")
    limit = sized.capacity.limit if sized.capacity is not None else None
    wish = facts.spec.replicas
    if wish is not None and limit is not None and limit < clamp(facts, wish):
        return said(
            True, ConditionReason.TRAINING, f"{clamp(facts, wish)} workers are wanted, there is room for {limit}"
        )
    return said(True, ConditionReason.TRAINING, "steps are being done")


def _how_to_go_on(facts: Facts, stand: Standing) -> str:
    assert stand.suspension is not None
    name, kind = facts.observed.run.name, facts.job.kind
    if stand.suspension.reason == REQUESTED:
        return "To go on set spec.suspend to false"
    return f"To try again correct the {kind} or the run file, or change anything in the spec of TrainingRun {name}"


def _refused(facts: Facts, actions: Sequence[Action]) -> Said | None:
    """That the API server does not let it do what is still to be done."""
    refused = facts.observed.refused
    if refused is None or refused.action not in map(verb, actions):
        return None
    reason = ConditionReason.FORBIDDEN if refused.lacks_right else ConditionReason.REFUSED
    return Said(ConditionType.HEALTHY, False, reason, refused.message)


def _healthy(facts: Facts, tally: Tally, stand: Standing) -> Said:
    def said(status: bool | None, reason: ConditionReason, message: str) -> Said:
        return Said(ConditionType.HEALTHY, status, reason, message)

    job, held = facts.job, stand.suspension
    if job.finished is not None:
        if job.finished:
            return said(True, ConditionReason.ALL_WELL, "")
        return said(False, ConditionReason.JOB_FAILED, _last_words(facts, tally))
    if held is not None and held.overruled:
        message = (
            f"{job.kind} {job.name} was suspended ({held.reason}: {held.message}), and queue {job.queue} started it "
            "again: set spec.active of its Workload to false"
        )
        return said(False, ConditionReason.QUEUE_OVERRULES, message)
    if held is not None and held.reason != REQUESTED:
        return said(False, ConditionReason(held.reason), held.message)
    if facts.spec.elastic.min > facts.spec.elastic.max:
        return said(False, ConditionReason.BOUNDS_INVALID, _ready(facts).message)
    stuck = [f"pod {pod.name}: {pod.trouble}" for pod in facts.alive if pod.trouble is not None]
    if stuck:
        return said(False, ConditionReason.CANNOT_START, f"{len(stuck)} containers cannot start; {stuck[0]}")
    lost = sorted({pod.node or "" for pod in facts.observed.pods if on_lost_node(pod, facts.observed.nodes)})
    if lost:
        return said(False, ConditionReason.NODE_LOST, f"not ready: node {', '.join(lost)}")
    if facts.running and facts.coordinator is None and not job.suspend:
        message = "the coordinator does not answer: whether launchers hang is not known; see its pod's log"
        return said(None, ConditionReason.COORDINATOR_SILENT, message)
    silent = silent_pods(facts) if not job.suspend else []
    if silent and all_silent(facts):
        message = (
            f"the coordinator answers and hears no launcher, though {len(facts.running)} run: see the network between "
            "them and the NetworkPolicy; no pod is replaced for that"
        )
        return said(False, ConditionReason.LAUNCHERS_SILENT, message)
    if silent:
        hang = facts.spec.hang
        message = (
            f"the coordinator has not heard {', '.join(silent)} for more than {hang.seconds} s: {hang.action.value}"
        )
        return said(False, ConditionReason.LAUNCHER_SILENT, message)
    return said(True, ConditionReason.ALL_WELL, "")


def _outcome(facts: Facts, stand: Standing) -> list[Said]:
    job, held = facts.job, stand.suspension
    succeeded = Said(ConditionType.SUCCEEDED, False, ConditionReason.NOT_FINISHED, "")
    failed = Said(ConditionType.FAILED, False, ConditionReason.NOT_FINISHED, "")
    if job.finished:
        message = job.message or f"{job.kind} {job.name} is complete"
        succeeded = Said(ConditionType.SUCCEEDED, True, ConditionReason.COMPLETED, message)
    elif job.finished is False:
        failed = Said(ConditionType.FAILED, True, ConditionReason.JOB_FAILED, _last_words(facts, None))
    elif held is not None and held.reason == ConditionReason.BUDGET_EXHAUSTED and not held.overruled:
        message = f"{held.message}. {_how_to_go_on(facts, stand)}"
        failed = Said(ConditionType.FAILED, True, ConditionReason.BUDGET_EXHAUSTED, message)
    return [succeeded, failed]


def _last_words(facts: Facts, tally: Tally | None) -> str:
    """What is known of a job that failed for good."""
    job = facts.job
    failures = tally.failures if tally is not None else facts.status.failures
    said = job.message or f"{job.kind} {job.name} failed"
    last = f"; the last error: {failures.last_error}" if failures.last_error else ""
    return f"{said}{last}. To try again delete the job and make it anew: it goes on from its newest checkpoint"


def _carried(old: TrainingRunStatus, coordinator: Coordinator | None) -> TrainingRunStatus:
    """The status with what the coordinator tells now; what it does not tell stays."""
    if coordinator is None:
        return old
    told = {name: getattr(coordinator, name) for name in _TOLD}
    return old.model_copy(update={name: value for name, value in told.items() if value is not None})


def _with_conditions(
    status: TrainingRunStatus, said: list[Said], observed: Observed, now: datetime
) -> TrainingRunStatus:
    """The status with its conditions brought up to date; those that nothing is said of stay."""
    if status.last_checkpoint is not None:
        committed = "there is a checkpoint to go on from: see status.lastCheckpoint"
        said = [*said, Said(ConditionType.CHECKPOINTED, True, ConditionReason.COMMITTED, committed)]
    else:
        none = "no checkpoint is known yet: a restart would begin at the first step"
        said = [*said, Said(ConditionType.CHECKPOINTED, False, ConditionReason.NO_CHECKPOINT, none)]
    generation = observed.run.generation
    old = {condition.type: condition for condition in observed.run.status.conditions}
    new = {one.type.value: one for one in said}
    conditions = []
    for type_ in ConditionType:
        one, before = new.get(type_.value), old.get(type_.value)
        if one is None:
            conditions += [before] if before is not None else []
            continue
        conditions.append(_condition(one, before, generation, now))
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def _condition(one: Said, before: Condition | None, generation: int, now: datetime) -> Condition:
    """What is said as a condition; the one from before if it says the same, as nearly always."""
    value = {True: "True", False: "False", None: "Unknown"}[one.status]
    since = before.last_transition_time if before is not None and before.status == value else now
    if before is not None and (before.status, before.reason, before.message, before.observed_generation) == (
        value,
        one.reason,
        one.message,
        generation,
    ):
        return before
    return Condition(
        type=one.type.value,
        status=value,
        reason=one.reason.value,
        message=one.message,
        last_transition_time=since,
        observed_generation=generation,
    )
