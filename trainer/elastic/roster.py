"""What launchers' messages change in the coordinator's picture of them: pure functions from one `Seen` to the next.

`trainer.elastic.coordinator` calls one per message, `settle` before each decision and `carry_out` after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import (
    Adopt,
    Decision,
    End,
    Failure,
    Finish,
    Form,
    Member,
    Round,
    Rules,
    SeatEnd,
    Seen,
    failures,
)


def first_comes(seen: Seen, rules: Rules) -> Seen:
    """A launcher comes where none is: its rules hold, and a run that was over begins its next life.

    Not a run that was taken over: an orchestrator that starts its launchers again would have it taken back, and again.
    """
    if seen.verdict is not None and seen.verdict.reason is not Reason.FENCED:
        seen = replace(seen, verdict=None, round=None)
    return replace(seen, rules=rules)


def round_reported(seen: Seen, *, until: float) -> Seen:
    """A launcher comes whose workers run: from the first of them on, a new coordinator waits for the others."""
    if seen.round is not None or any(member.claim is not None for member in seen.members.values()):
        return seen
    return replace(seen, hold_until=max(seen.hold_until, until))


def hello(seen: Seen, member: Member) -> Seen:
    """A launcher comes, or comes back after its connection broke; its claim is the round its workers are in."""
    known = seen.members.get(member.id)
    if known is not None:
        member = replace(member, since=known.since, step=max(known.step, member.step))
    return _with(seen, member)


def ready(seen: Seen, member_id: str, endpoint: str, now: float) -> Seen:
    """Its workers are gone, and it waits for a round."""
    member = replace(seen.members[member_id], ready_at=now, seen_at=now, endpoint=endpoint)
    if seen.round is None:
        # What it claims still tells a new coordinator how that round ends.
        return _with(seen, member)
    running = seen.round.running
    seen = _with(seen, replace(member, claim=None))
    if member_id in running:
        # It never heard of the round, or lost its workers without a word.
        seen = _ending(seen, member_id, SeatEnd(End.STOPPED, now, Reason.NODE_LOST, f"{member.host} came back alone"))
    return seen


def beat(seen: Seen, member_id: str, now: float, *, step: int, took_step: bool) -> Seen:
    """It is alive. took_step: its workers have taken a step in this round."""
    seen = _with(seen, replace(seen.members[member_id], seen_at=now, step=step))
    if took_step and seen.round is not None and not seen.round.first_step and member_id in seen.round.running:
        seen = replace(seen, round=replace(seen.round, first_step=True))
    return seen


def heard(seen: Seen, member_id: str, at: float) -> Seen:
    """It was alive then, whether or not its workers get on."""
    member = seen.members[member_id]
    return _with(seen, replace(member, seen_at=max(member.seen_at, at)))


def remember(seen: Seen, past: Sequence[Failure]) -> Seen:
    """What the store knows of failures, where that is more than this coordinator has seen itself."""
    return replace(seen, failures=tuple(past)) if len(past) > len(seen.failures) else seen


def leaving(seen: Seen, member_id: str) -> Seen:
    """It was told to stop: its workers save, and it takes part in no further round."""
    return _with(seen, replace(seen.members[member_id], leaving=True))


def ended(seen: Seen, member_id: str, round_id: str, end: SeatEnd) -> Seen:
    """Its workers of a round ended."""
    member = replace(seen.members[member_id], seen_at=end.at)
    if member.claim is not None and member.claim.id == round_id:
        # A coordinator that has not yet taken the round over keeps the claim: it tells how that round ends.
        ends = {**member.claim.ends, member_id: end}
        member = replace(member, claim=replace(member.claim, ends=ends) if seen.round is None else None)
    seen = _with(seen, member)
    if seen.round is not None and seen.round.id == round_id and member_id in seen.round.running:
        seen = _ending(seen, member_id, end)
    return seen


def disconnected(seen: Seen, member_id: str, now: float) -> Seen:
    """Its connection closed; it has a moment to come back."""
    member = seen.members.get(member_id)
    return seen if member is None else _with(seen, replace(member, disconnected_at=now))


def left(seen: Seen, member_id: str) -> Seen:
    """It ends in good order: what it had to say of its workers was said before."""
    members = {key: member for key, member in seen.members.items() if key != member_id}
    return replace(seen, members=members)


def settle(seen: Seen, now: float) -> Seen:
    """Give up launchers that are silent for too long, and end the seats of those that are gone."""
    before = seen.members
    seen = replace(seen, members={key: m for key, m in before.items() if now < silent_at(seen, m)})
    if seen.round is None:
        return seen
    lost = {}
    for seat in seen.round.running:
        if seat not in seen.members:
            name = before[seat].host if seat in before else seat
            message = f"the launcher on {name} is gone: killed, cut off or without power"
            lost[seat] = SeatEnd(End.LOST, now, Reason.NODE_LOST, message)
    return replace(seen, round=replace(seen.round, ends={**seen.round.ends, **lost})) if lost else seen


def stood_still(seen: Seen, seconds: float, now: float) -> Seen:
    """The coordinator itself did not run for so long (stopped, or starved): nobody was silent because of that."""

    def later(at: float) -> float:
        return min(at + seconds, now)

    members = {
        key: replace(
            member,
            seen_at=later(member.seen_at),
            disconnected_at=None if member.disconnected_at is None else later(member.disconnected_at),
        )
        for key, member in seen.members.items()
    }
    return replace(seen, members=members)


def silent_at(seen: Seen, member: Member) -> float:
    """When a launcher that says nothing more counts as lost."""
    silent = member.seen_at + seen.rules.silent_seconds
    if member.disconnected_at is None:
        return silent
    return min(silent, member.disconnected_at + seen.rules.reconnect_seconds)


def carry_out(seen: Seen, decision: Decision, now: float, *, round_id: str) -> Seen:
    """The picture after a decision; round_id: a fresh random id, used if a round is formed."""
    if isinstance(decision, Finish):
        return replace(seen, verdict=decision)
    if isinstance(decision, Adopt):
        return _adopt(seen, decision.round, now)
    if isinstance(decision, Form):
        number = seen.round.number + 1 if seen.round is not None else 1
        patient = seen.round is not None and not seen.round.first_step
        formed = Round(round_id, number, decision.seats, patient=patient)
        seated = {seat: replace(seen.members[seat], ready_at=None, claim=formed) for seat in decision.seats}
        return replace(seen, failures=tuple(failures(seen, now)), round=formed, members={**seen.members, **seated})
    return seen


def _adopt(seen: Seen, found: Round, now: float) -> Seen:
    """Take over what all its members say of a round; `settle` ends the seats of those that did not come back."""
    claims = [m.claim for m in seen.members.values() if m.claim is not None and m.claim.id == found.id]
    ends = {seat: end for claim in claims for seat, end in claim.ends.items()}
    for seat in found.seats:
        if seat in seen.members and seen.members[seat].ready_at is not None:
            ends.setdefault(seat, SeatEnd(End.STOPPED, now, Reason.COORDINATOR_LOST))
    members = {
        key: replace(member, claim=None) if key in ends or member.ready_at is not None else member
        for key, member in seen.members.items()
    }
    current = replace(found, ends=ends, first_step=any(claim.first_step for claim in claims))
    return replace(seen, round=current, members=members)


def _with(seen: Seen, member: Member) -> Seen:
    return replace(seen, members={**seen.members, member.id: member})


def _ending(seen: Seen, seat: str, end: SeatEnd) -> Seen:
    assert seen.round is not None
    return replace(seen, round=replace(seen.round, ends={**seen.round.ends, seat: end}))
