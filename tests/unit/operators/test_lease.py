from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from operators.lease import Candidate, Record

NOBODY = Record("", "0")


def test_a_free_lease_may_be_taken_at_once() -> None:
    candidate = Candidate("a")
    assert not candidate.may_take(0.0), "nothing is known of it"
    candidate.seen(NOBODY, 0.0)
    assert candidate.may_take(0.0)
    assert not candidate.holds(0.0), "it has to be written first"
    candidate.renewed(Record("a", "1"), sent_at=0.0)
    assert candidate.holds(3.4)
    assert not candidate.holds(3.6), "before others may take it"


def test_one_that_is_renewed_is_left_alone() -> None:
    candidate = Candidate("b")
    for second in range(20):
        candidate.seen(Record("a", str(second)), float(second))
        assert not candidate.may_take(second + 0.9)
    assert not candidate.may_take(22.9)
    assert candidate.may_take(23.0)


def test_the_clock_of_its_writer_does_not_matter() -> None:
    candidate = Candidate("b")
    candidate.seen(Record("a", "renewed at 1970"), 100.0)
    assert not candidate.may_take(103.0)


def test_lost_and_given_back() -> None:
    candidate = Candidate("a")
    candidate.seen(NOBODY, 0.0)
    candidate.renewed(Record("a", "1"), sent_at=0.0)
    candidate.seen(Record("b", "2"), 1.0)
    assert not candidate.holds(1.0)
    candidate.renewed(Record("a", "3"), sent_at=2.0)
    candidate.given_back()
    assert not candidate.holds(2.0)


def test_its_own_name_from_before_a_restart() -> None:
    candidate = Candidate("a")
    candidate.seen(Record("a", "1"), 0.0)
    assert candidate.may_take(0.0)
    assert not candidate.holds(0.0)


@given(
    gaps=st.lists(st.floats(0.1, 6.0), min_size=1, max_size=40),
    delays=st.lists(st.floats(0.0, 1.0), min_size=40, max_size=40),
    looks=st.lists(st.floats(0.05, 1.0), min_size=300, max_size=300),
)
def test_two_never_hold_it_together(gaps: list[float], delays: list[float], looks: list[float]) -> None:
    """The first renews after each gap, its write arriving a delay later; the second looks now and then."""
    first, second = Candidate("a"), Candidate("b")
    sent, arrivals = 0.0, []
    for number, gap in enumerate(gaps):
        sent += gap
        arrivals.append((sent, sent + delays[number], f"a{number}"))
    now, taken_at = arrivals[0][1], None
    for look in looks:
        now += look
        here = [arrival for arrival in arrivals if arrival[1] <= now]
        second.seen(Record("a", here[-1][2]), now)
        if second.may_take(now):
            taken_at = now
            break
    if taken_at is None:
        return
    # Writes that arrive later are refused: the object has changed.
    for sent_at, arrived, mark in arrivals:
        if arrived <= taken_at:
            first.renewed(Record("a", mark), sent_at)
    assert not first.holds(taken_at)
