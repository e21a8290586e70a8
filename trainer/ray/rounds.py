"""The coordinator's words for what Ray does: groups are rounds, nodes are members, errors of workers are ends of seats.

With that, what a failure means (its reason, whether it counts, whether the run is over) is decided by
`trainer.elastic.rounds`, for Ray as for launchers, and `/status` shows it through the same code. Pure: the driver
passes the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainer.elastic import roster
from trainer.elastic.messages import PastFailure
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import (
    Decision,
    End,
    Failure,
    Form,
    Member,
    Round,
    Rules,
    SeatEnd,
    Seen,
    cause,
    decide,
    failures,
)
from trainer.elastic.workers import Report, causes
from trainer.errors import EXIT_PREEMPTED, EXIT_USER_ERROR


@dataclass(frozen=True)
class Place:
    """Where a rank runs."""

    rank: int
    node: str
    """Ray's id of the node."""
    host: str


@dataclass(frozen=True)
class Group:
    """One world of workers, as Ray placed it: a round in the words of the coordinator."""

    id: str
    places: tuple[Place, ...]
    """In rank order."""


@dataclass(frozen=True)
class Died:
    """A rank whose process ended without a word of its own."""

    message: str
    reason: Reason
    """NodeLost if its machine went with it, else WorkerFailed or OutOfMemory."""


@dataclass(frozen=True)
class Clean:
    """All ranks ended as they should."""

    exit_code: int
    """0 or 75, of every rank."""


@dataclass(frozen=True)
class Broken:
    """A group ended early, or could not be started."""

    ranks: Mapping[int, Report | Died]
    """Those that Ray heard of; it killed the others."""
    message: str = ""
    """What Ray says where no rank is to blame."""
    reason: Reason = Reason.WORKER_FAILED


class Rounds:
    """The run's rounds as the driver sees them."""

    def __init__(self, rules: Rules) -> None:
        self.seen = Seen(hold_until=float("-inf"), rules=rules)
        self._group: Group | None = None

    @property
    def previous_end(self) -> dict[str, Any] | None:
        """How the newest round ended, for the claim of the next attempt; None if there was none."""
        if self.seen.round is None or self.seen.round.running:
            return None
        why = cause(self.seen.round)
        return {"reason": why.reason or Reason.SCALED, "counted": why.end is End.FAILED, "message": why.message}

    @property
    def group(self) -> Group | None:
        """The group that trains."""
        return self._group

    def begin(self, group: Group, now: float) -> str | None:
        """A group has been placed; the reason for which the one before ended, None if it is the first."""
        if self.seen.round is not None and self.seen.round.running:
            # Ray resized the group by itself, and its workers saved.
            for seat in self.seen.round.running:
                self._end(seat, SeatEnd(End.PREEMPTED, now, Reason.SCALED))
        reason = self.previous_end["reason"] if self.previous_end else None
        slots = Counter(place.node for place in group.places)
        hosts = {place.node: place.host for place in group.places}
        members = {node: Member(node, hosts[node], slots[node], since=now, seen_at=now) for node in slots}
        self.seen = roster.carry_out(replace(self.seen, members=members), Form(tuple(members)), now, round_id=group.id)
        self._group = group
        return reason

    def beat(self, step: int, took_step: bool, now: float) -> None:
        """Rank 0 took a step: no rank gets a step ahead of another."""
        for member in self.seen.members:
            self.seen = roster.beat(self.seen, member, now, step=step, took_step=took_step)

    def heard(self, at: float) -> None:
        """Rank 0 gave a sign of life then, be it between two steps; it speaks for all nodes."""
        for member in self.seen.members:
            self.seen = roster.heard(self.seen, member, at)

    def remember(self, past: Iterable[PastFailure], now: float) -> None:
        """What the attempts' claims tell of failures."""
        self.seen = roster.remember(self.seen, [Failure(now - one.age_seconds, one.message) for one in past])

    def end(self, how: Clean | Broken, now: float) -> Decision:
        """The group ended, and Ray starts no other by itself. Finish: the run is over; anything else: try again."""
        culprit, end = _outcome(how, now)
        before = self.seen.round
        if before is None or not before.running:
            # It ended before it was placed.
            number = before.number + 1 if before is not None else 1
            failed = Round("", number, ("",), ends={"": end})
            self.seen = replace(self.seen, failures=tuple(failures(self.seen, now)), round=failed, members={})
        else:
            node = self._group.places[culprit].node if self._group is not None and culprit is not None else None
            for seat in before.running:
                stopped = node is not None and seat != node
                self._end(seat, SeatEnd(End.STOPPED, now, end.reason, end.message) if stopped else end)
        self._group = None
        decision = decide(self.seen, now)
        self.seen = roster.carry_out(self.seen, decision, now, round_id="")
        return decision

    def _end(self, seat: str, end: SeatEnd) -> None:
        assert self.seen.round is not None
        self.seen = roster.ended(self.seen, seat, self.seen.round.id, end)


def _outcome(how: Clean | Broken, now: float) -> tuple[int | None, SeatEnd]:
    """How the group ended, and the rank that brought it about; None: all ranks, or none that Ray names."""
    if isinstance(how, Broken):
        return _blame(how, now)
    if how.exit_code == EXIT_PREEMPTED:
        return None, SeatEnd(End.PREEMPTED, now, Reason.PREEMPTED)
    return None, SeatEnd(End.FINISHED, now)


def _blame(how: Broken, now: float) -> tuple[int | None, SeatEnd]:
    """The rank whose end is the cause, and that end; None if Ray names no rank.

    Wrong input and a fence first, then who died, then who stopped before it had begun: others fail for want of those.
    """
    reports = causes(found for found in how.ranks.values() if isinstance(found, Report))
    for report in reports:
        if report.exit_code == EXIT_USER_ERROR:
            return report.rank, SeatEnd(End.INVALID, now, report.reason, report.message)
        if report.reason is Reason.FENCED:
            return report.rank, SeatEnd(End.FENCED, now, report.reason, report.message)
    dead = {rank: found for rank, found in how.ranks.items() if isinstance(found, Died)}
    for rank, found in sorted(dead.items(), key=lambda item: (item[1].reason is not Reason.NODE_LOST, item[0])):
        kind = End.LOST if found.reason is Reason.NODE_LOST else End.FAILED
        return rank, SeatEnd(kind, now, found.reason, found.message)
    for report in sorted(reports, key=lambda report: report.exit_code != EXIT_PREEMPTED):
        kind = End.PREEMPTED if report.exit_code == EXIT_PREEMPTED else End.FAILED
        return report.rank, SeatEnd(kind, now, report.reason, report.message)
    kind = End.LOST if how.reason is Reason.NODE_LOST else End.FAILED
    return None, SeatEnd(kind, now, how.reason, how.message)
