"""The coordinator's decisions as a table of named cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainer.elastic import roster
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
    Stop,
    Wait,
    cause,
    decide,
)

NOW = 100.0
RULES = Rules(min_nodes=2, max_nodes=3, budget_failures=1)


def member(name: str, **changes: object) -> Member:
    return replace(Member(name, f"host-{name}", 1, since=ord(name), seen_at=NOW), **changes)


def ready(name: str, *, since: float = NOW - 10, **changes: object) -> Member:
    return member(name, ready_at=since, endpoint=f"{name}:1", **changes)


def running(*names: str, number: int = 1, **ends: End) -> Round:
    seat_ends = {name: SeatEnd(end, NOW, Reason.WORKER_FAILED, f"{name} {end}") for name, end in ends.items()}
    return Round(f"r{number}", number, names, seat_ends, first_step=True)


def seen(*members: Member, current: Round | None = None, hold_until: float = 0.0, **changes: object) -> Seen:
    if current is not None:
        members = tuple(replace(m, claim=current) if m.id in current.running else m for m in members)
    found = Seen(hold_until, RULES, {m.id: m for m in members}, current)
    return replace(found, **changes)


CASES: dict[str, tuple[Seen, Decision]] = {
    "nobody": (seen(), Wait("0 of at least 2 nodes are here")),
    "too few": (seen(ready("a")), Wait("1 of at least 2 nodes are here")),
    "one still warms up": (seen(ready("a"), member("b")), Wait("1 of at least 2 nodes are here")),
    "first round waits for those that prepare themselves": (
        seen(ready("a", since=NOW - 59), ready("b", since=NOW - 50), member("c")),
        Wait("2 nodes are ready, 1 more prepare themselves"),
    ),
    "but not for ever": (seen(ready("a", since=NOW - 60), ready("b", since=NOW - 50), member("c")), Form(("a", "b"))),
    "first round waits for more": (
        seen(ready("a"), ready("b", since=NOW - 1)),
        Wait("2 of at most 3 nodes are here; more may come"),
    ),
    "first round after its call": (seen(ready("a"), ready("b", since=NOW - 3)), Form(("a", "b"))),
    "full at once, the oldest first": (
        seen(ready("c", since=NOW), ready("b"), ready("a", since=NOW)),
        Form(("a", "b", "c")),
    ),
    "one too many waits": (seen(ready("a"), ready("b"), ready("c"), ready("d")), Form(("a", "b", "c"))),
    "leavers and the disconnected take no seat": (
        seen(ready("a"), ready("b", leaving=True), ready("c", disconnected_at=NOW - 0.1)),
        Wait("1 of at least 2 nodes are here"),
    ),
    "a new coordinator holds": (
        seen(ready("a"), ready("b"), ready("c"), hold_until=NOW + 1),
        Wait("a new coordinator waits for members of a round that may be running"),
    ),
    "a reported roster comes back one by one": (
        seen(member("a", claim=running("a", "b")), ready("d"), hold_until=NOW + 1),
        Wait("1 of 2 members of round 1 are back"),
    ),
    "a whole roster is taken over at once": (
        seen(member("a", claim=running("a", "b")), member("b", claim=running("a", "b")), hold_until=NOW + 1),
        Adopt(running("a", "b")),
    ),
    "part of a roster is taken over after the hold": (
        seen(member("a", claim=running("a", "b"))),
        Adopt(running("a", "b")),
    ),
    "the newest of two reported rounds": (
        seen(member("a", claim=running("a", "b")), member("c", claim=running("c", "d", number=2))),
        Adopt(running("c", "d", number=2)),
    ),
    "all is well": (seen(member("a"), member("b"), current=running("a", "b")), Wait("round 1 runs")),
    "a newcomer": (
        seen(member("a"), member("b"), ready("c", since=NOW), current=running("a", "b")),
        Stop(("a", "b"), save=True, reason=Reason.SCALED, message="1 more nodes are here"),
    ),
    "a newcomer before the first step": (
        seen(member("a"), member("b"), ready("c", since=NOW), current=replace(running("a", "b"), first_step=False)),
        Stop(("a", "b"), save=True, reason=Reason.SCALED, message="1 more nodes are here"),
    ),
    "another newcomer before the first step": (
        seen(
            member("a"),
            member("b"),
            ready("c", since=NOW),
            current=replace(running("a", "b"), first_step=False, patient=True),
        ),
        Wait("round 1 runs"),
    ),
    "another newcomer after the first step": (
        seen(member("a"), member("b"), ready("c", since=NOW), current=replace(running("a", "b"), patient=True)),
        Stop(("a", "b"), save=True, reason=Reason.SCALED, message="1 more nodes are here"),
    ),
    "a newcomer that is one too many": (
        seen(member("a"), member("b"), member("c"), ready("d"), current=running("a", "b", "c")),
        Wait("round 1 runs"),
    ),
    "told to leave": (
        seen(member("a", leaving=True), member("b"), current=running("a", "b")),
        Stop(("a", "b"), save=True, reason=Reason.PREEMPTED, message="a node was told to stop"),
    ),
    "one has left before the others know": (
        seen(member("a"), member("b"), current=running("a", "b", a=End.PREEMPTED)),
        Stop(("b",), save=True, reason=Reason.PREEMPTED, message="a node was told to stop"),
    ),
    "a worker failed": (
        seen(member("a"), member("b"), current=running("a", "b", a=End.FAILED)),
        Stop(("b",), save=False, reason=Reason.WORKER_FAILED, message="a failed"),
    ),
    "a node is lost": (
        seen(member("b"), current=running("a", "b", a=End.LOST)),
        Stop(("b",), save=False, reason=Reason.WORKER_FAILED, message="a lost"),
    ),
    "some finished a moment ago": (
        seen(member("a"), member("b"), current=running("a", "b", a=End.FINISHED)),
        Wait("round 1 runs"),
    ),
    "all finished": (
        seen(member("a"), member("b"), current=running("a", "b", a=End.FINISHED, b=End.FINISHED)),
        Finish(0, None, "training is complete"),
    ),
    "wrong input of one": (
        seen(member("a"), member("b"), current=running("a", "b", a=End.INVALID)),
        Finish(2, Reason.CONFIG_INVALID, "a invalid"),
    ),
    "another world owns the run": (
        seen(member("a"), member("b"), current=running("a", "b", a=End.FENCED)),
        Finish(1, Reason.FENCED, "a fenced"),
    ),
    "survivors are on their way back": (
        seen(ready("a"), member("b"), current=running("a", "b", a=End.STOPPED, b=End.FAILED)),
        Wait("nodes of the last round are on their way back"),
    ),
    "survivors go on without a call": (
        seen(ready("a", since=NOW), ready("b", since=NOW), current=running("a", "b", a=End.STOPPED, b=End.FAILED)),
        Form(("a", "b")),
    ),
    "a newcomer after a loss has a short call": (
        seen(ready("b"), ready("c", since=NOW - 0.2), current=running("a", "b", a=End.LOST, b=End.STOPPED)),
        Wait("2 of at most 3 nodes are here; more may come"),
    ),
    "fewer than the smallest world are left": (
        seen(ready("b"), current=running("a", "b", a=End.LOST, b=End.STOPPED)),
        Wait("1 of at least 2 nodes are here"),
    ),
    "the budget is spent": (
        seen(
            ready("a"),
            ready("b"),
            current=running("a", "b", a=End.FAILED, b=End.STOPPED),
            failures=(Failure(NOW - 5, "an earlier one"),),
        ),
        Finish(
            1,
            Reason.BUDGET_EXHAUSTED,
            "2 failures within 3600 s, elastic.budget allows 1: an earlier one; a failed",
        ),
    ),
    "old failures are forgotten": (
        seen(
            ready("a"),
            ready("b"),
            current=running("a", "b", a=End.FAILED, b=End.STOPPED),
            failures=(Failure(NOW - 3601, "an earlier one"),),
        ),
        Form(("a", "b")),
    ),
    "one that was given up for lost comes back": (
        seen(member("a", claim=running("a", "b")), member("b"), member("c"), current=running("b", "c", number=2)),
        Stop(("a",), save=False, reason=Reason.NODE_LOST, message="this round went on without you"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_decide(name: str) -> None:
    picture, expected = CASES[name]
    assert decide(picture, NOW) == expected


def test_finishing_too_early_is_a_failure_after_a_while() -> None:
    picture = seen(member("a"), member("b"), current=running("a", "b", a=End.FINISHED))
    decision = decide(picture, NOW + RULES.early_end_seconds)
    assert isinstance(decision, Stop)
    assert decision.members == ("b",)
    assert not decision.save


@pytest.mark.parametrize(
    ("ends", "first_step", "expected"),
    [
        ({"a": End.PREEMPTED, "b": End.PREEMPTED}, True, End.PREEMPTED),
        ({"a": End.FAILED, "b": End.STOPPED}, True, End.FAILED),
        ({"a": End.LOST, "b": End.FAILED}, True, End.LOST),  # b felt the loss of a
        ({"a": End.PREEMPTED, "b": End.FAILED}, True, End.FAILED),
        ({"a": End.PREEMPTED, "b": End.FAILED}, False, End.PREEMPTED),  # a left before b could take a step with it
        ({"a": End.FINISHED, "b": End.STOPPED}, True, End.STOPPED),
    ],
)
def test_cause(ends: dict[str, End], first_step: bool, expected: End) -> None:
    assert cause(replace(running("a", "b", **ends), first_step=first_step)).end is expected


def test_only_failures_count() -> None:
    for end, counted in ((End.FAILED, 1), (End.LOST, 0), (End.PREEMPTED, 0)):
        picture = seen(ready("a"), ready("b"), current=running("a", "b", a=end, b=End.STOPPED))
        assert len(roster.carry_out(picture, Form(("a", "b")), NOW, round_id="r2").failures) == counted


@pytest.mark.parametrize("first_step", [True, False])
def test_a_round_is_patient_after_one_without_a_step(first_step: bool) -> None:
    before = replace(running("a", "b", a=End.PREEMPTED, b=End.PREEMPTED), first_step=first_step)
    picture = roster.carry_out(seen(ready("a"), ready("b"), current=before), Form(("a", "b")), NOW, round_id="r2")
    assert picture.round is not None
    assert picture.round.patient is not first_step


def test_a_silent_launcher_is_given_up_and_its_seat_ends() -> None:
    picture = seen(member("a", seen_at=NOW - 2), member("b"), current=running("a", "b"))
    settled = roster.settle(picture, NOW)
    assert set(settled.members) == {"b"}
    assert settled.round is not None
    assert settled.round.ends["a"].end is End.LOST
    assert roster.settle(picture, NOW - 0.1) == picture


def test_nobody_is_silent_while_the_coordinator_stands_still() -> None:
    heard = seen(member("a", seen_at=NOW - 3.5), member("b", seen_at=NOW), current=running("a", "b"))
    assert roster.settle(heard, NOW).members.keys() == {"b"}
    later = roster.stood_still(heard, 3.0, NOW)
    assert roster.settle(later, NOW).members.keys() == {"a", "b"}
    # What was silent before goes on being so, and what has spoken since is heard from now.
    assert later.members["a"].seen_at == NOW - 0.5
    assert later.members["b"].seen_at == NOW
    cut_off = roster.stood_still(roster.disconnected(heard, "a", NOW - 3.1), 3.0, NOW)
    assert roster.settle(cut_off, NOW + 0.1).members.keys() == {"a", "b"}
    assert roster.settle(cut_off, NOW + 0.2).members.keys() == {"b"}


def test_a_broken_connection_has_a_moment_to_come_back() -> None:
    picture = roster.disconnected(seen(member("a"), member("b"), current=running("a", "b")), "a", NOW)
    assert roster.settle(picture, NOW + 0.2).members.keys() == {"a", "b"}
    assert roster.settle(picture, NOW + 0.3).members.keys() == {"b"}
    back = roster.hello(picture, member("a", claim=running("a", "b")))
    assert roster.settle(back, NOW + 0.3).members.keys() == {"a", "b"}


def test_a_new_coordinator_hears_of_ends_before_it_takes_the_round_over() -> None:
    claim = running("a", "b")
    picture = seen(member("a", claim=claim), member("b", claim=claim))
    picture = roster.ended(picture, "a", "r1", SeatEnd(End.PREEMPTED, NOW))
    picture = roster.ready(picture, "a", "a:1", NOW)
    decision = decide(picture, NOW)
    assert isinstance(decision, Adopt)
    picture = roster.carry_out(picture, decision, NOW, round_id="")
    assert picture.round is not None
    assert picture.round.ends["a"].end is End.PREEMPTED
    assert picture.members["a"].claim is None
    assert isinstance(decide(picture, NOW), Stop)


def test_a_coordinator_that_was_hard_to_reach_still_waits_for_all_members_of_a_round() -> None:
    claim = running("a", "b")
    picture = roster.round_reported(seen(hold_until=NOW - 60), until=NOW + 5)
    picture = roster.hello(picture, member("a", claim=claim))
    assert decide(picture, NOW) == Wait("1 of 2 members of round 1 are back")
    picture = roster.hello(roster.round_reported(picture, until=NOW + 9), member("a", claim=claim))
    assert decide(picture, NOW + 5) == Adopt(claim)
    picture = roster.hello(picture, member("b", claim=claim))
    assert decide(picture, NOW) == Adopt(claim)


def test_a_run_that_is_over_begins_its_next_life_unless_another_owns_it() -> None:
    finished = seen(current=running("a"), verdict=Finish(0, None, "training is complete"))
    again = roster.first_comes(finished, RULES)
    assert (again.verdict, again.round) == (None, None)

    # Launchers that are started again must not take the run back from who took it over.
    taken = Finish(1, Reason.FENCED, "belongs to attempt a0002")
    again = roster.first_comes(seen(current=running("a"), verdict=taken), RULES)
    again = roster.hello(again, ready("b"))
    assert decide(again, NOW) == taken


@pytest.mark.parametrize("leaving", [False, True])
def test_a_look_at_a_thousand_seats_goes_over_them_as_often_as_at_three(
    monkeypatch: pytest.MonkeyPatch, leaving: bool
) -> None:
    """It is made many times a second: once over all seats for each of them would take all of a core."""
    seats_of = Round.running
    assert isinstance(seats_of, property)
    counted: list[int] = []

    def counting(self: Round) -> object:
        counted[-1] += 1
        return seats_of.__get__(self)

    monkeypatch.setattr(Round, "running", property(counting))
    for number in (3, 1000):
        names = [f"{name:04d}" for name in range(number)]
        rules = Rules(min_nodes=1, max_nodes=number)
        formed = roster.carry_out(
            Seen(0.0, rules, {name: replace(ready("a"), id=name) for name in names}),
            Form(tuple(names)),
            NOW,
            round_id="r",
        )
        if leaving:
            formed = roster.leaving(formed, names[-1])
        counted.append(0)
        roster.settle(formed, NOW)
        assert isinstance(decide(formed, NOW), Stop if leaving else Wait)
    assert counted[0] == counted[1]
