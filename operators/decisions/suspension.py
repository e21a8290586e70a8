"""Whether the job shall be suspended, by whose wish, and when it goes on.

What is wanted is written down before it is done and stays written until it is seen done: an operator that dies in
between finds the rest of its work. Only what this operator suspended does it resume. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from operators.actions import ActionReason, Resume, Suspend
from operators.api import Suspension
from operators.decisions.facts import Facts
from operators.decisions.failures import Tally

# No cache is as old as this: a suspension that is not wanted any more and was not seen by then never took place.
FORGET_SECONDS = 60.0

REQUESTED = "Suspended"
_ACTIONS = {
    REQUESTED: ActionReason.SUSPEND_REQUESTED,
    "ConfigInvalid": ActionReason.CONFIG_INVALID,
    "BudgetExhausted": ActionReason.BUDGET_EXHAUSTED,
}


@dataclass(frozen=True)
class Standing:
    """Where the job stands between running and suspended."""

    suspension: Suspension | None
    action: Suspend | Resume | None = None
    forgiven: bool = False
    """It has just been resumed: what failed before is forgotten."""


def standing(facts: Facts, tally: Tally) -> Standing:
    """What is known of the suspension now, and the one thing to do about it."""
    held, job = facts.status.suspension, facts.job
    if held is not None and held.job_uid != job.uid:
        return _anew(facts, tally)
    if held is None:
        return Standing(None) if job.suspend else _begin(facts, tally)
    if job.suspend:
        return _held(facts, held)
    if held.job_generation == 0 or held.overruled:
        return _not_yet(facts, held)
    if job.generation <= held.job_generation:
        return Standing(held)  # old news, from before it was suspended
    return _resumed(facts, held)


def _anew(facts: Facts, tally: Tally) -> Standing:
    """Suspended was an earlier job of this name: what that one failed is not held against this one."""
    if facts.job.suspend:
        return Standing(None, forgiven=True)
    return replace(_begin(facts, replace(tally, exhausted=None)), forgiven=True)


def _begin(facts: Facts, tally: Tally) -> Standing:
    """A running job: reasons to suspend it."""
    if facts.spec.suspend:
        return _suspend(facts, REQUESTED, "spec.suspend is true: the run saves and gives its nodes back")
    if tally.invalid is not None:
        return _suspend(facts, "ConfigInvalid", tally.invalid)
    if tally.exhausted is not None:
        return _suspend(facts, "BudgetExhausted", tally.exhausted)
    return Standing(None)


def _held(facts: Facts, held: Suspension) -> Standing:
    """Suspended, and it was us: see that this is known, then look whether it may go on."""
    job = facts.job
    if job.generation < max(held.job_generation, held.decided_at_job_generation):
        return Standing(held)  # old news, perhaps of an earlier suspension of ours
    if job.mark != _mark(held):
        # Somebody else was first, or suspended it again since we let it go on: resuming takes the mark away.
        return Standing(None)
    if not held.overruled:
        held = held.model_copy(update={"job_generation": max(job.generation, held.job_generation)})
    cause = _ended(facts, held)
    if cause is None:
        return Standing(held)
    if job.queue is not None:
        return Standing(None, forgiven=True)  # its manager lets it go on when its turn comes
    return Standing(held, Resume(job.resource_version, *cause))


def _not_yet(facts: Facts, held: Suspension) -> Standing:
    """Decided, but not seen done; or done and undone by the queue's manager."""
    if _ended(facts, held) is None:
        return Standing(held, None if held.overruled else _action(facts, held))
    if held.overruled or facts.now - held.time > timedelta(seconds=FORGET_SECONDS):
        return Standing(None, forgiven=True)
    return Standing(held)


def _resumed(facts: Facts, held: Suspension) -> Standing:
    """Seen suspended, and now it runs: by us, by hand, or by a queue's manager."""
    if facts.job.queue is not None and _ended(facts, held) is None:
        return Standing(held.model_copy(update={"overruled": True}))
    if held.reason == REQUESTED and facts.spec.suspend:
        return _suspend(facts, REQUESTED, "spec.suspend is true, the job was set to run: suspended again")
    return Standing(None, forgiven=True)


def _ended(facts: Facts, held: Suspension) -> tuple[ActionReason, str] | None:
    """Why a suspended job may go on."""
    job, run = facts.job, facts.observed.run
    if run.spec.suspend:
        return None
    if held.reason == REQUESTED:
        return ActionReason.RESUME_REQUESTED, "spec.suspend is false: the run goes on from its newest checkpoint"
    if held.template and job.template and job.template != held.template:
        return ActionReason.JOB_CHANGED, f"{job.kind} {job.name} was changed since {held.reason}: it is tried again"
    if run.generation > held.generation:
        return ActionReason.RESUME_REQUESTED, f"the TrainingRun was changed since {held.reason}: it is tried again"
    return None


def _suspend(facts: Facts, reason: str, message: str) -> Standing:
    held = Suspension(
        reason=reason,
        message=message,
        time=facts.now,
        generation=facts.generation,
        template=facts.job.template,
        job_uid=facts.job.uid,
        decided_at_job_generation=facts.job.generation,
    )
    return Standing(held, _action(facts, held))


def _action(facts: Facts, held: Suspension) -> Suspend:
    return Suspend(facts.job.resource_version, _ACTIONS[held.reason], held.message, _mark(held))


def _mark(held: Suspension) -> str:
    return f"{held.reason} {held.time.isoformat(timespec='seconds')}"
