"""What the end of a group of Ray's workers means for the run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from trainer.elastic.messages import PastFailure
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import Decision, End, Finish, Rules, Wait, cause
from trainer.elastic.status import RunStatus
from trainer.elastic.workers import Report
from trainer.ray.rounds import Broken, Clean, Died, Group, Place, Rounds

# Two nodes, of which the first has two ranks.
GROUP = Group("g1", (Place(0, "a", "host-a"), Place(1, "a", "host-a"), Place(2, "b", "host-b")))


def rounds(*, budget: int = 3, stepped: bool = True) -> Rounds:
    made = Rounds(Rules(min_nodes=1, max_nodes=4, budget_failures=budget, budget_window_seconds=100.0))
    assert made.begin(GROUP, 0.0) is None
    made.beat(7, stepped, 1.0)
    return made


def report(rank: int, code: int = 1, reason: Reason = Reason.WORKER_FAILED, at: int = 0) -> Report:
    return Report(rank, code, reason, f"error: of rank {rank}", at)


WRONG = report(1, 2, Reason.CONFIG_INVALID, at=9)
FENCED = report(0, 1, Reason.FENCED, at=9)
PEER_GONE = report(0)
KILLED = Died("error: rank 2 died", Reason.WORKER_FAILED)
NODE_GONE = Died("error: rank 2 died", Reason.NODE_LOST)
STOPPED_EARLY = report(2, 75, Reason.PREEMPTED, at=9)


@pytest.mark.parametrize(
    ("ranks", "end", "reason"),
    [
        ({0: PEER_GONE, 1: WRONG, 2: KILLED}, End.INVALID, Reason.CONFIG_INVALID),
        ({0: FENCED, 1: report(1), 2: KILLED}, End.FENCED, Reason.FENCED),
        ({0: PEER_GONE, 2: NODE_GONE}, End.LOST, Reason.NODE_LOST),
        ({0: PEER_GONE, 2: KILLED}, End.FAILED, Reason.WORKER_FAILED),
        ({1: Died("", Reason.OUT_OF_MEMORY)}, End.FAILED, Reason.OUT_OF_MEMORY),
        ({0: report(0, at=5), 1: report(1, reason=Reason.NON_FINITE_LOSS, at=4)}, End.FAILED, Reason.NON_FINITE_LOSS),
        ({0: PEER_GONE, 2: STOPPED_EARLY}, End.PREEMPTED, Reason.PREEMPTED),
    ],
)
def test_the_cause_of_a_broken_group(ranks: Mapping[int, Report | Died], end: End, reason: Reason) -> None:
    run = rounds()
    run.end(Broken(ranks), 2.0)
    assert run.seen.round is not None
    found = cause(run.seen.round)
    assert (found.end, found.reason) == (end, reason)
    assert run.previous_end is not None
    assert run.previous_end["counted"] == (end is End.FAILED)


@pytest.mark.parametrize(
    ("how", "exit_code", "reason"),
    [
        (Clean(0), 0, None),
        (Broken({1: WRONG}), 2, Reason.CONFIG_INVALID),
        (Broken({0: FENCED}), 1, Reason.FENCED),
    ],
)
def test_ends_that_are_final(how: Clean | Broken, exit_code: int, reason: Reason | None) -> None:
    decision = rounds().end(how, 2.0)
    assert isinstance(decision, Finish)
    assert (decision.exit_code, decision.reason) == (exit_code, reason)


@pytest.mark.parametrize("how", [Clean(75), Broken({2: NODE_GONE}), Broken({}, "gone", Reason.NODE_LOST)])
def test_ends_that_cost_no_retry(how: Clean | Broken) -> None:
    assert isinstance(rounds(budget=0).end(how, 2.0), Wait)


def test_failures_spend_the_budget_and_age() -> None:
    run = rounds(budget=1)
    assert isinstance(run.end(Broken({2: KILLED}), 2.0), Wait)
    assert run.begin(GROUP, 3.0) == Reason.WORKER_FAILED
    run.beat(8, True, 3.0)
    decision = run.end(Broken({2: KILLED}), 4.0)
    assert isinstance(decision, Finish)
    assert decision.reason is Reason.BUDGET_EXHAUSTED

    patient = rounds(budget=1)
    patient.end(Broken({2: KILLED}), 2.0)
    patient.begin(GROUP, 3.0)
    assert isinstance(patient.end(Broken({2: KILLED}), 200.0), Wait)


def test_failures_of_earlier_drivers_count() -> None:
    run = rounds(budget=1)
    run.remember([PastFailure(age_seconds=5.0, message="before")], 2.0)
    decision = run.end(Broken({2: KILLED}), 3.0)
    assert isinstance(decision, Finish)
    assert "before" in decision.message


def test_groups_that_cannot_be_placed_spend_the_budget_too() -> None:
    run = Rounds(Rules(budget_failures=1))
    assert isinstance(run.end(Broken({}, "no room"), 1.0), Wait)
    decision = run.end(Broken({}, "no room"), 2.0)
    assert isinstance(decision, Finish)
    assert decision.message.count("no room") == 2


def test_a_resize_is_the_end_of_a_round_and_no_failure() -> None:
    run = rounds(budget=0)
    assert run.begin(Group("g2", GROUP.places[:1]), 2.0) == Reason.SCALED
    assert run.seen.round is not None
    assert (run.seen.round.number, run.seen.round.running) == (2, ("a",))
    assert not run.seen.failures


def test_the_page_shows_nodes_as_members() -> None:
    run, status = rounds(), RunStatus()
    decision: Decision = Wait("")
    status.look_at("small", run.seen, decision, 2.0)
    page = status.document()
    assert [(member["host"], member["slots"], member["step"]) for member in page["members"]] == [
        ("host-a", 2, 7),
        ("host-b", 1, 7),
    ]
    assert (page["world_size"], page["nodes"]) == (3, {"min": 1, "max": 4})
    status.look_at("small", run.seen, run.end(Broken({1: WRONG}), 3.0), 3.0)
    page = status.document()
    assert (page["phase"], page["last_error"]["exit_code"]) == ("failed", 2)
