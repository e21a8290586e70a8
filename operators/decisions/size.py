"""How many worker pods: the bounds, a person's wish, and the room that the cluster has.

`decide` asks for at most one change in a pass. Growing backs off: each time that new pods found no room after all
doubles the wait for the next. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from operators.actions import ActionReason, Scale
from operators.api import CapacityStatus, JobKind
from operators.decisions.facts import Facts, earliest

LONGEST_WAIT_SECONDS = 3600
# What the scheduler and the job's controller may take on top, where `pendingSeconds` is short.
SLACK_SECONDS = 60


@dataclass(frozen=True)
class Size:
    """What to do about the number of pods, and what to remember of it."""

    capacity: CapacityStatus | None
    growth_failures: int
    scale: Scale | None = None
    window: datetime | None = None
    """When there may be something to do."""


def size(facts: Facts) -> Size:
    """The size of a job that is not finished and that nobody is about to suspend or resume."""
    elastic, job, asked = facts.spec.elastic, facts.job, facts.spec.replicas
    before = Size(facts.status.capacity, facts.status.growth_failures)
    if elastic.min > elastic.max:
        return before
    if job.suspend:
        # The replicas of a suspended PyTorchJob are kept; a RayJob has no cluster then.
        if asked is None or job.kind is not JobKind.PYTORCH_JOB:
            return before
        return Size(before.capacity, before.growth_failures, _scale(facts, clamp(facts, asked)))
    if not follows_room(facts):
        return Size(None, 0, _scale(facts, clamp(facts, job.replicas if asked is None else asked)))
    capacity = facts.status.capacity
    if capacity is not None and capacity.limit_of != asked:
        before = Size(None, 0)  # another wish
        capacity = None
    scale = _scale(facts, _target(facts, capacity))
    if scale is not None:
        return Size(before.capacity, before.growth_failures, scale)
    return _shrink(facts, before) or _grow(facts, _judge(facts, before))


def clamp(facts: Facts, replicas: int) -> int:
    """The nearest number within the bounds."""
    elastic = facts.spec.elastic
    return max(elastic.min, min(elastic.max, replicas))


def follows_room(facts: Facts) -> bool:
    """Whether the run grows and shrinks with the cluster's room; Kueue does that for jobs in its queues."""
    return facts.spec.elastic.capacity.enabled and facts.job.queue is None


def _target(facts: Facts, capacity: CapacityStatus | None) -> int:
    """The pods there should be as things stand, before anything is said of room."""
    asked, job = facts.spec.replicas, facts.job
    if asked is None:
        undone = capacity is not None and capacity.job_generation == job.generation
        return clamp(facts, capacity.limit if undone and capacity is not None else job.replicas)
    return clamp(facts, asked if capacity is None else min(asked, capacity.limit))


def _shrink(facts: Facts, before: Size) -> Size | None:
    """Give up pods that have found no node for longer than one takes to come."""
    job, patience = facts.job, timedelta(seconds=facts.spec.elastic.capacity.pending_seconds)
    waiting = [pod for pod in facts.alive if _since(facts, pod.unschedulable_since) >= patience]
    # Pods beyond the job's number are on their way out already.
    surplus = max(0, len(facts.alive) - job.replicas)
    replicas = clamp(facts, job.replicas - max(0, len(waiting) - surplus))
    if replicas >= job.replicas:
        return None
    seconds = facts.spec.elastic.capacity.pending_seconds
    message = f"{len(waiting)} pods found no node for {seconds} s: {job.replicas} -> {replicas} workers"
    failed = before.capacity is not None and before.capacity.grew and not _proven(facts, before.capacity)
    return _change(facts, before.growth_failures + failed, ActionReason.PODS_PENDING, replicas, message)


def _judge(facts: Facts, before: Size) -> Size:
    """A growth that was not taken back in time was none in vain."""
    if before.capacity is None or not before.capacity.grew or not _proven(facts, before.capacity):
        return before
    return Size(before.capacity.model_copy(update={"grew": False}), 0)


def _grow(facts: Facts, before: Size) -> Size:
    """Take room that has lasted, once all pods that there are run."""
    observed, job, capacity = facts.observed, facts.job, facts.spec.elastic.capacity
    waiting = earliest(
        pod.unschedulable_since + timedelta(seconds=capacity.pending_seconds)
        for pod in facts.alive
        if pod.unschedulable_since is not None
        and _since(facts, pod.unschedulable_since).total_seconds() < capacity.pending_seconds
    )
    verdict = None
    if before.capacity is not None and before.capacity.grew:
        verdict = before.capacity.changed_at + _proof(facts)
    idle = Size(before.capacity, before.growth_failures, window=earliest([waiting, verdict]))
    asked = facts.spec.replicas
    headroom = clamp(facts, facts.spec.elastic.max if asked is None else asked) - job.replicas
    all_run = len(facts.running) == len(facts.alive) == job.replicas
    if not all_run or headroom <= 0 or not observed.room or observed.room < 0 or observed.room_since is None:
        return idle
    start = observed.room_since
    if before.capacity is not None:
        start = max(start, before.capacity.changed_at)
    wait = growth_wait(capacity.grow_seconds, before.growth_failures)
    if facts.now - start < wait:
        return Size(before.capacity, before.growth_failures, window=earliest([idle.window, start + wait]))
    replicas = job.replicas + min(observed.room, headroom)
    message = (
        f"room for {observed.room} more pods for {wait.total_seconds():.0f} s: {job.replicas} -> {replicas} workers"
    )
    return _change(facts, before.growth_failures, ActionReason.ROOM_APPEARED, replicas, message)


def growth_wait(grow_seconds: int, growth_failures: int) -> timedelta:
    """How long room must last: twice as long after each growth in vain, up to an hour."""
    doubled = max(1, grow_seconds) * 2 ** min(growth_failures, 12)
    return timedelta(seconds=max(grow_seconds, min(LONGEST_WAIT_SECONDS, doubled)) if growth_failures else grow_seconds)


def _change(facts: Facts, growth_failures: int, reason: ActionReason, replicas: int, message: str) -> Size:
    state = CapacityStatus(
        changed_at=facts.now,
        grew=reason is ActionReason.ROOM_APPEARED,
        limit=replicas,
        limit_of=facts.spec.replicas,
        job_generation=facts.job.generation,
    )
    job = facts.job
    return Size(state, growth_failures, Scale(job.resource_version, job.replicas, replicas, reason, message))


def _scale(facts: Facts, replicas: int) -> Scale | None:
    """The change to a number that is due whatever room there is, with its reason."""
    job, elastic, asked, capacity = facts.job, facts.spec.elastic, facts.spec.replicas, facts.status.capacity
    if job.replicas == replicas:
        return None
    limited = capacity is not None and capacity.limit_of == asked and replicas == capacity.limit
    if capacity is not None and capacity.job_generation != job.generation and asked is not None:
        limited = limited and replicas != clamp(facts, asked)
    if not elastic.min <= job.replicas <= elastic.max:
        reason = ActionReason.OUT_OF_BOUNDS
        message = (
            f"{job.kind} {job.name} was set to {job.replicas} workers, spec.elastic allows {elastic.min} to "
            f"{elastic.max}: set back to {replicas}. To stop the run set spec.suspend"
        )
    elif limited and capacity is not None and follows_room(facts):
        reason = ActionReason.PODS_PENDING if replicas < job.replicas else ActionReason.ROOM_APPEARED
        since = f"{capacity.changed_at:%H:%M:%S} UTC"
        message = f"there is room for {replicas} workers (found at {since}): {job.replicas} -> {replicas} workers"
    else:
        reason = ActionReason.SCALE_REQUESTED
        message = f"spec.replicas is {asked}: {job.replicas} -> {replicas} workers"
    return Scale(job.resource_version, job.replicas, replicas, reason, message)


def _since(facts: Facts, time: datetime | None) -> timedelta:
    return timedelta(0) if time is None else facts.now - time


def _proof(facts: Facts) -> timedelta:
    """How long a growth must last to count as one."""
    pending = facts.spec.elastic.capacity.pending_seconds
    return timedelta(seconds=max(2 * pending, pending + SLACK_SECONDS))


def _proven(facts: Facts, capacity: CapacityStatus) -> bool:
    return facts.now - capacity.changed_at > _proof(facts)
