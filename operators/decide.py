"""What is to be done about one run: facts first, then checks in order, each with its reason and a sentence.

Called by the operator's loop whenever something changed or a window ended. Pure and deterministic: the clock is an
argument, and the same picture gives the same decision. The status is written before anything is done and holds what
keeps a thing from being done twice; until something is seen done, it is decided again, upon the same resource version.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from operators.actions import Action, ActionReason, Decision, DeleteJob, DeletePod
from operators.api import HangAction
from operators.decisions import conditions
from operators.decisions.facts import Facts, earliest, gather, on_lost_node
from operators.decisions.failures import Tally, count
from operators.decisions.size import Size, size
from operators.decisions.suspension import FORGET_SECONDS, Standing, standing
from operators.observed import Observed, Pod


def decide(observed: Observed, now: datetime) -> Decision:
    """The status of a run, and what to do. Nothing at all about one that is being deleted: its job goes on without."""
    if observed.run.deleting:
        return Decision(observed.run.status)
    if observed.job is None or observed.owner is not None or observed.job.deleting:
        return Decision(conditions.of_no_job(observed, now))
    facts = gather(observed, observed.job, now)
    tally = count(facts)
    if facts.job.finished is not None:
        return _finished(facts, tally)
    stand = standing(facts, tally)
    if stand.forgiven:
        tally = Tally(tally.failures.model_copy(update={"times": []}), tally.restarts)
    replaced = _silent_launcher(facts)
    actions: list[Action] = [*_lost_pods(facts), *([replaced] if replaced is not None else [])]
    # One change of the job at a time: a second would be refused, for the first makes another version of it.
    sized = Size(facts.status.capacity, facts.status.growth_failures)
    if stand.action is not None:
        actions.append(stand.action)
    elif not _to_be_suspended(stand, facts):
        sized = size(facts)
        actions += [sized.scale] if sized.scale is not None else []
    status = conditions.of(facts, tally, stand, sized, actions)
    return Decision(status, tuple(actions), _look_again(facts, stand, sized))


def _finished(facts: Facts, tally: Tally) -> Decision:
    """A job that is over: nothing but cleaning up."""
    job, after = facts.job, facts.spec.completion.delete_after_seconds
    actions: list[Action] = list(_lost_pods(facts))
    due = None
    if job.finished and after is not None and job.finished_at is not None:
        due = job.finished_at + timedelta(seconds=after)
        if facts.now >= due:
            message = f"{job.kind} {job.name} has been complete for {after} s (spec.completion.deleteAfterSeconds)"
            actions.append(DeleteJob(job.uid, ActionReason.COMPLETED, message, job.resource_version))
    stand = Standing(facts.status.suspension)
    sized = Size(facts.status.capacity, facts.status.growth_failures)
    status = conditions.of(facts, tally, stand, sized, actions)
    return Decision(status, tuple(actions), _until(facts, [*facts.windows, due]))


def _lost_pods(facts: Facts) -> list[DeletePod]:
    """Pods on nodes that are gone stay Terminating for ever, and none come in their place."""
    found = []
    for pod in facts.lost:
        node = facts.observed.nodes[pod.node or ""]
        assert node.not_ready_since is not None
        gone = (facts.now - node.not_ready_since).total_seconds()
        heard = "the coordinator does not hear its launcher" if facts.coordinator is not None else "it was to go anyway"
        message = f"node {node.name} has not been ready for {gone:.0f} s and {heard}: pod {pod.name} deleted by force"
        found.append(_delete(pod, force=True, reason=ActionReason.NODE_LOST, message=message))
    return found


def _silent_launcher(facts: Facts) -> DeletePod | None:
    """The launcher that has been silent for longest, if it is to be replaced: one at a time, and never when none is
    heard, for then the trouble is the network's or the coordinator's own."""
    hang = facts.spec.hang
    if facts.job.suspend or hang.action is not HangAction.REPLACE or not conditions.silent_pods(facts):
        return None
    nodes = facts.observed.nodes
    if conditions.all_silent(facts) or any(
        pod.deleting and not on_lost_node(pod, nodes) for pod in facts.observed.pods
    ):
        return None
    name = max(conditions.silent_pods(facts), key=lambda name: (facts.silent[name], name))
    pod = next(pod for pod in facts.running if pod.name == name)
    message = (
        f"the coordinator has not heard pod {name} for {facts.silent[name].total_seconds():.0f} s "
        f"(spec.hang.seconds is {hang.seconds}) though its container runs: deleted, another comes in its place"
    )
    return _delete(pod, force=False, reason=ActionReason.LAUNCHER_SILENT, message=message)


def _delete(pod: Pod, *, force: bool, reason: ActionReason, message: str) -> DeletePod:
    return DeletePod(pod.name, pod.uid, force, reason, message, pod.resource_version)


def _to_be_suspended(stand: Standing, facts: Facts) -> bool:
    """Whether a suspension is under way that old news do not show yet."""
    return stand.suspension is not None and not stand.suspension.overruled and not facts.job.suspend


def _look_again(facts: Facts, stand: Standing, sized: Size) -> timedelta | None:
    """When the first window ends."""
    forget = None
    if stand.suspension is not None and stand.suspension.job_generation == 0:
        forget = stand.suspension.time + timedelta(seconds=FORGET_SECONDS)
    return _until(facts, [*facts.windows, sized.window, forget])


def _until(facts: Facts, times: list[datetime | None] | tuple[datetime, ...]) -> timedelta | None:
    """From now to the first of some times that lie ahead."""
    ahead = earliest(time for time in times if time is not None and time > facts.now)
    return None if ahead is None else ahead - facts.now
