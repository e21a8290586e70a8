"""Which world of workers there is: the coordinator's decisions, without a clock, a socket or a store.

`trainer.elastic.coordinator` keeps in `Seen` what launchers told it (`trainer.elastic.roster` says how) and asks
`decide` after every message and a few times a second. Read `decide` from top to bottom: it is the whole protocol.
Times are seconds on the coordinator's own monotonic clock; the clocks of nodes are never compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from trainer.elastic.reasons import Reason
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_USER_ERROR


class End(StrEnum):
    """How the workers of one launcher ended in one round."""

    FINISHED = "finished"  # all exited 0: training is complete
    PREEMPTED = "preempted"  # all exited 75: they had saved and stopped as asked
    STOPPED = "stopped"  # killed by their launcher because the coordinator said so
    FAILED = "failed"
    STUCK = "stuck"  # killed, and still there: their launcher leaves the run
    FENCED = "fenced"  # another world has claimed the run in the store
    INVALID = "invalid"  # exit 2: the user's input is wrong
    LOST = "lost"  # their launcher is silent; decided by the coordinator, never reported


@dataclass(frozen=True)
class Rules:
    """What a run allows; launchers bring the first four with them, from the command line and the run file."""

    min_nodes: int = 1
    max_nodes: int = 1
    budget_failures: int = 3
    """Failures within the window that a run survives."""
    budget_window_seconds: float = 3600.0
    first_call_seconds: float = 3.0
    """How long the first round waits for another launcher once the fewest are there."""
    warm_up_seconds: float = 60.0
    """How long it waits for those that are there and not yet ready."""
    last_call_seconds: float = 0.5
    """The same for later rounds, counted from the newest one's coming."""
    silent_seconds: float = 2.0
    """A launcher without a heartbeat for so long is lost."""
    reconnect_seconds: float = 0.3
    """One whose connection closed is lost after this: a dead process's is closed at once by the kernel."""
    early_end_seconds: float = 30.0
    """Workers finish together: once one did, the others have this long."""


@dataclass(frozen=True)
class SeatEnd:
    """How and when the workers of one seat ended."""

    end: End
    at: float
    reason: Reason | None = None
    message: str = ""


@dataclass(frozen=True)
class Round:
    """A world of workers: launchers in rank order. It stays as the last one until the next is formed."""

    id: str
    """Random: numbers of two coordinators may collide."""
    number: int
    seats: tuple[str, ...]
    ends: Mapping[str, SeatEnd] = field(default_factory=dict)
    first_step: bool = False
    """Whether its workers have taken a step."""
    patient: bool = False
    """The round before it took none: newcomers wait until this one has, or a trickle of them would starve the run."""

    @property
    def running(self) -> tuple[str, ...]:
        """Seats whose workers have not ended, as far as is known."""
        return tuple(seat for seat in self.seats if seat not in self.ends)


@dataclass(frozen=True)
class Member:
    """A launcher, as far as the coordinator knows."""

    id: str
    """Random, new with every launcher process."""
    host: str
    slots: int
    """Workers that it starts."""
    since: float
    """When it came first: those that are here longest have the lowest ranks."""
    seen_at: float
    disconnected_at: float | None = None
    ready_at: float | None = None
    """Since when it waits for a round; None while it prepares or has workers."""
    endpoint: str = ""
    """host:port of the store it holds for the next round's process group."""
    leaving: bool = False
    step: int = 0
    claim: Round | None = None
    """The round that its workers are in, by its own account."""


@dataclass(frozen=True)
class Failure:
    """One that counts against the budget."""

    at: float
    message: str


@dataclass(frozen=True)
class Finish:
    """The run is over for every launcher, now and later."""

    exit_code: int
    reason: Reason | None
    message: str


@dataclass(frozen=True)
class Seen:
    """Everything the coordinator knows."""

    hold_until: float
    """One that has just started may be the second coordinator of a run that trains: it forms no round before, and does
    not take one over that lacks members."""
    rules: Rules = Rules()
    members: Mapping[str, Member] = field(default_factory=dict)
    round: Round | None = None
    failures: Sequence[Failure] = ()
    verdict: Finish | None = None


@dataclass(frozen=True)
class Wait:
    """Nothing to do; why, in words for people."""

    why: str


@dataclass(frozen=True)
class Adopt:
    """Take over a round that its members report: this coordinator is a new one."""

    round: Round


@dataclass(frozen=True)
class Form:
    """Start a round of these launchers, in rank order."""

    seats: tuple[str, ...]


@dataclass(frozen=True)
class Stop:
    """End the workers of these launchers."""

    members: tuple[str, ...]
    save: bool
    """True: SIGTERM, and wait for the save. False: SIGKILL, for a peer is gone and they hang in a collective."""
    reason: Reason
    message: str


Decision = Wait | Adopt | Form | Stop | Finish


def decide(seen: Seen, now: float) -> Decision:
    """What the coordinator does next. The same again as long as nothing changes."""
    if seen.verdict is not None:
        return seen.verdict
    if seen.round is None:
        return _adoption(seen, now) or _next_round(seen, now)
    return (
        _final(seen.round, seen, now)
        or _stop(seen.round, seen, now)
        or _strays(seen)
        or (Wait(f"round {seen.round.number} runs") if seen.round.running else _next_round(seen, now))
    )


def cause(ended: Round) -> SeatEnd:
    """Why a round ended: of its seats' ends the one that says most."""
    kinds = [End.INVALID, End.FENCED, End.LOST, End.STUCK, End.FAILED, End.PREEMPTED, End.STOPPED, End.FINISHED]
    if not ended.first_step:
        # Told to stop before their first step, some leave at once and the others fail for want of them.
        kinds.remove(End.PREEMPTED)
        kinds.insert(kinds.index(End.FAILED), End.PREEMPTED)
    return min(ended.ends.values(), key=lambda end: (kinds.index(end.end), end.at))


def failures(seen: Seen, now: float) -> list[Failure]:
    """What counts against the budget now, the round that just ended included."""
    found = list(seen.failures)
    if seen.round is not None and not seen.round.running:
        why = cause(seen.round)
        if why.end is End.FAILED:
            found.append(Failure(why.at, why.message))
    return [failure for failure in found if failure.at > now - seen.rules.budget_window_seconds]


def _adoption(seen: Seen, now: float) -> Decision | None:
    """Members of a running round come back to a new coordinator: all of them, or those who do before the hold ends."""
    claims = [member.claim for member in seen.members.values() if member.claim is not None]
    if not claims:
        return None
    newest = max(claims, key=lambda claim: (claim.number, claim.id))
    back = {m.id for m in seen.members.values() if m.claim is not None and m.claim.id == newest.id}
    if now < seen.hold_until and back != set(newest.seats):
        return Wait(f"{len(back)} of {len(newest.seats)} members of round {newest.number} are back")
    return Adopt(newest)


def _strays(seen: Seen) -> Stop | None:
    """Workers of another round than the current one: cut off for a while, or given up for lost."""
    assert seen.round is not None
    running = frozenset(seen.round.running)
    strays = tuple(
        member.id
        for member in seen.members.values()
        if member.claim is not None and (member.claim.id != seen.round.id or member.id not in running)
    )
    if not strays:
        return None
    return Stop(strays, save=False, reason=Reason.NODE_LOST, message="this round went on without you")


def _final(current: Round, seen: Seen, now: float) -> Finish | None:
    """Whether the run is over for good."""
    for end in current.ends.values():
        if end.end is End.INVALID:
            return Finish(EXIT_USER_ERROR, Reason.CONFIG_INVALID, end.message)
        if end.end is End.FENCED:
            return Finish(EXIT_FAILED, Reason.FENCED, end.message)
    if current.running:
        return None
    if all(end.end is End.FINISHED for end in current.ends.values()):
        return Finish(EXIT_FINISHED, None, "training is complete")
    recent = failures(seen, now)
    if len(recent) > seen.rules.budget_failures:
        return Finish(
            EXIT_FAILED,
            Reason.BUDGET_EXHAUSTED,
            f"{len(recent)} failures within {seen.rules.budget_window_seconds:g} s, elastic.budget allows "
            f"{seen.rules.budget_failures}: {'; '.join(failure.message for failure in recent)}",
        )
    return None


def _stop(current: Round, seen: Seen, now: float) -> Stop | None:
    """Whether the workers that still run have to end, and how."""
    running = current.running
    if not running:
        return None
    for end in sorted(current.ends.values(), key=lambda end: end.at):
        if end.end in (End.LOST, End.STUCK, End.FAILED, End.STOPPED):
            return Stop(running, save=False, reason=end.reason or Reason.WORKER_FAILED, message=end.message)
    finished = [end.at for end in current.ends.values() if end.end is End.FINISHED]
    if finished and now >= min(finished) + seen.rules.early_end_seconds:
        message = "workers of one node ended with 0 while others train: they left the run too early"
        return Stop(running, save=False, reason=Reason.WORKER_FAILED, message=message)
    if any(seen.members[seat].leaving for seat in running) or any(
        end.end is End.PREEMPTED for end in current.ends.values()
    ):
        return Stop(running, save=True, reason=Reason.PREEMPTED, message="a node was told to stop")
    if current.patient and not current.first_step:
        return None
    seats = frozenset(current.seats)
    newcomers = [m for m in _ready(seen) if m.id not in seats][: seen.rules.max_nodes - len(running)]
    if newcomers and _called_long_enough(newcomers, len(running), seen.rules.last_call_seconds, seen, now):
        return Stop(running, save=True, reason=Reason.SCALED, message=f"{len(newcomers)} more nodes are here")
    return None


def _next_round(seen: Seen, now: float) -> Decision:
    """No workers run: who makes up the next world, and whether to wait for more."""
    if now < seen.hold_until:
        return Wait("a new coordinator waits for members of a round that may be running")
    before = frozenset(seen.round.seats if seen.round is not None else ())
    chosen = _ready(seen)[: seen.rules.max_nodes]
    if any(m.id in before and m.ready_at is None and not m.leaving for m in seen.members.values()):
        return Wait("nodes of the last round are on their way back")
    if len(chosen) < seen.rules.min_nodes:
        return Wait(f"{len(chosen)} of at least {seen.rules.min_nodes} nodes are here")
    preparing = [m for m in seen.members.values() if m.ready_at is None and not m.leaving]
    longest = min(member.ready_at or 0.0 for member in chosen)
    if not before and preparing and len(chosen) < seen.rules.max_nodes and now < longest + seen.rules.warm_up_seconds:
        return Wait(f"{len(chosen)} nodes are ready, {len(preparing)} more prepare themselves")
    newcomers = [member for member in chosen if member.id not in before]
    call_seconds = seen.rules.last_call_seconds if before else seen.rules.first_call_seconds
    if newcomers and not _called_long_enough(newcomers, len(chosen) - len(newcomers), call_seconds, seen, now):
        return Wait(f"{len(chosen)} of at most {seen.rules.max_nodes} nodes are here; more may come")
    return Form(tuple(member.id for member in chosen))


def _ready(seen: Seen) -> list[Member]:
    """Launchers that wait for a round and answer, the longest here first."""
    waiting = [
        m for m in seen.members.values() if m.ready_at is not None and not m.leaving and m.disconnected_at is None
    ]
    return sorted(waiting, key=lambda member: (member.since, member.id))


def _called_long_enough(newcomers: list[Member], others: int, call_seconds: float, seen: Seen, now: float) -> bool:
    """Whether to go on without those who may be about to come: the world is full, or nobody came for a while."""
    newest = max(member.ready_at or 0.0 for member in newcomers)
    return others + len(newcomers) >= seen.rules.max_nodes or now >= newest + call_seconds
