"""Counts failures, each once, from the ends of containers and the coordinator's counters, and says when it is enough.

Preemptions, scaling, lost nodes and everything a terminating pod does are no failures. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from operators.api import Failures, RestartCount
from operators.decisions.facts import Facts, on_lost_node
from operators.observed import Error, Exit, Pod
from trainer.elastic.reasons import Reason
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_USER_ERROR

COUNTED = frozenset(
    {Reason.WORKER_FAILED, Reason.HUNG, Reason.NON_FINITE_LOSS, Reason.STORE_UNAVAILABLE, Reason.OUT_OF_MEMORY}
)
# Containers of several pods that end within so long of each other end for one failure: an attempt's, not a pod's.
SAME_FAILURE_SECONDS = 15.0
# What the kubelet reports of a container that its node took along when it went down.
EXIT_UNKNOWN = 255
# Sources that are gone are remembered all the same, for old news of them may still come; the newest so many.
GONE_SOURCES = 64


@dataclass(frozen=True)
class Tally:
    """What the failures so far come to."""

    failures: Failures
    restarts: list[RestartCount]
    invalid: str | None = None
    """The launcher's message, if it has just ended because its input is wrong."""
    exhausted: str | None = None
    """Why the run is to be given up."""


def count(facts: Facts) -> Tally:
    """The failures with what is new of them."""
    old = facts.status.failures
    seen = dict(old.seen)
    ended = [pod for pod in facts.observed.pods if _ends(pod) > seen.get(_source(pod), 0)]
    counted, restarts = _coordinators(facts, seen)
    for pod in facts.observed.pods:
        if _ends(pod):
            seen[_source(pod)] = max(_ends(pod), seen.get(_source(pod), 0))
    window = timedelta(seconds=facts.spec.restart.window_seconds)
    new = [*counted, *_containers(facts, ended, [*old.times, *(time for time, _ in counted)])]
    times = sorted(time for time in [*old.times, *(time for time, _ in new)] if time > facts.now - window)
    verdict = _new_verdict(facts)
    failures = Failures(
        times=times[-(facts.spec.restart.failures + 1) :],
        seen=_remembered(facts, seen),
        last_error=max(new, key=lambda failure: failure[0])[1] if new else old.last_error,
        verdict_time=verdict.time if verdict is not None else old.verdict_time,
    )
    return Tally(failures, restarts, invalid=_invalid(facts, ended), exhausted=_exhausted(facts, failures, ended))


def _coordinators(facts: Facts, seen: dict[str, int]) -> tuple[list[tuple[datetime, str]], list[RestartCount]]:
    """New failures by the coordinator's counters, and attempts ended by reason; `seen` is brought up to date."""
    restarts = {entry.reason: entry.count for entry in facts.status.restarts}
    found: list[tuple[datetime, str]] = []
    # A run that was there before the operator is not blamed for what nobody counted.
    first_look = facts.status.observed_generation == 0
    coordinator = facts.coordinator
    for reason, total in sorted(coordinator.restarts.items()) if coordinator is not None else ():
        assert coordinator is not None
        source = f"coordinator/{coordinator.pod_uid}/{reason}"
        # Fewer than before is an older answer: counters start anew only in another coordinator.
        new = max(0, total - seen.get(source, 0))
        seen[source] = max(total, seen.get(source, 0))
        restarts[reason] = restarts.get(reason, 0) + new
        if reason in COUNTED and not first_look:
            error = coordinator.last_error
            said = error.message if error is not None and error.reason == reason else "the coordinator does not say why"
            found += [(facts.now, f"{reason}: {said}")] * min(new, facts.spec.restart.failures + 1)
    return found, [RestartCount(reason=reason, count=number) for reason, number in sorted(restarts.items()) if number]


def _containers(facts: Facts, ended: list[Pod], known: list[datetime]) -> list[tuple[datetime, str]]:
    """Failures by the ends of containers that were not seen before."""
    same = timedelta(seconds=SAME_FAILURE_SECONDS)
    found: list[tuple[datetime, str]] = []
    for pod in sorted(ended, key=lambda pod: pod.name):
        assert pod.exit is not None
        time = min(pod.exit.time, facts.now)
        if _is_free(facts, pod, pod.exit) or time < facts.observed.run.created_at:
            continue
        if all(abs(time - other) > same for other in [*known, *(other for other, _ in found)]):
            words = f": {pod.exit.message}" if pod.exit.message else ""
            found.append((time, f"pod {pod.name} ended with exit code {pod.exit.code}{words}"))
    return found


def _is_free(facts: Facts, pod: Pod, end: Exit) -> bool:
    """Whether a container's end costs nothing."""
    if end.code in (EXIT_FINISHED, EXIT_PREEMPTED, EXIT_USER_ERROR, EXIT_UNKNOWN):
        return True
    if pod.deleting or on_lost_node(pod, facts.observed.nodes):
        return True
    # A launcher puts the reason in front of its last words.
    reason = end.message.partition(":")[0]
    return end.code == EXIT_FAILED and reason in Reason.__members__.values() and reason not in COUNTED


def _invalid(facts: Facts, ended: list[Pod]) -> str | None:
    """What a launcher said that ended because its input is wrong; it would end so again."""
    for pod in sorted(ended, key=lambda pod: pod.name):
        assert pod.exit is not None
        if pod.exit.code == EXIT_USER_ERROR and not pod.deleting:
            return pod.exit.message or f"pod {pod.name} ended with exit code 2 and no words"
    verdict = _new_verdict(facts)
    if verdict is not None and verdict.exit_code == EXIT_USER_ERROR:
        return verdict.message
    return None


def _exhausted(facts: Facts, failures: Failures, ended: list[Pod]) -> str | None:
    """Why the run is given up: by its trainer's own budget, or by this one's."""
    restart = facts.spec.restart
    error = facts.coordinator.last_error if facts.coordinator is not None else None
    if error is not None and error.reason is Reason.BUDGET_EXHAUSTED:
        told = [pod for pod in ended if pod.exit is not None and pod.exit.code == EXIT_FAILED and not pod.deleting]
        if told or _new_verdict(facts) is not None:
            return error.message
    if len(failures.times) <= restart.failures:
        return None
    return (
        f"{len(failures.times)} failures within {restart.window_seconds} s, spec.restart.failures allows "
        f"{restart.failures}; the newest: {failures.last_error}"
    )


def _new_verdict(facts: Facts) -> Error | None:
    """The coordinator's word that the run is over, if it was not acted upon yet. One without a time cannot be told from
    one of an earlier life; the containers' ends say the same a moment later."""
    if facts.coordinator is None or facts.coordinator.phase != "failed":
        return None
    error, known = facts.coordinator.last_error, facts.status.failures.verdict_time
    if error is None or error.time is None or (known is not None and error.time <= known):
        return None
    return error


def _ends(pod: Pod) -> int:
    """How often its container has ended."""
    if pod.exit is None:
        return 0
    return pod.restarts if pod.running_since is not None else pod.restarts + 1


def _source(pod: Pod) -> str:
    return f"pod/{pod.uid}"


def _remembered(facts: Facts, seen: dict[str, int]) -> dict[str, int]:
    """`seen` without what has long been gone, for a run may last for months."""
    here = {_source(pod) for pod in facts.observed.pods}
    own = f"coordinator/{facts.coordinator.pod_uid}/" if facts.coordinator is not None else None
    gone = [source for source in seen if source not in here and not (own and source.startswith(own))]
    forgotten = set(gone[: max(0, len(gone) - GONE_SOURCES)])
    return {source: number for source, number in seen.items() if source not in forgotten}
