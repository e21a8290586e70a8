"""A pace never lets more through than it says, and a pause holds for everybody."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.fetch.pace import Pace

amounts = st.lists(st.floats(0.1, 100), min_size=1, max_size=20)


@given(amounts, st.floats(0.5, 50), st.lists(st.floats(0, 3), min_size=20, max_size=20))
def test_a_turn_begins_when_all_before_it_are_paid_for(wants: list[float], rate: float, idle: list[float]) -> None:
    pace, now, begun = Pace(rate), 0.0, []
    for amount, pause in zip(wants, idle, strict=False):
        now += pause
        begun.append((now + pace.reserve(amount, now), amount))
    for (earlier, amount), (later, _) in pairwise(begun):
        assert later >= earlier + amount / rate - 1e-6


def test_without_a_rate_nobody_waits() -> None:
    pace = Pace()
    assert [pace.reserve(10**9, 5.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert pace.per_second == math.inf


def test_idle_time_is_not_saved_up() -> None:
    pace = Pace(2.0)
    assert pace.reserve(1, 100.0) == 0.0
    assert pace.reserve(1, 100.0) == 0.5


def test_a_pause_holds_for_all_and_does_not_shorten_a_longer_one() -> None:
    pace = Pace(1.0)
    pace.pause(20.0)
    pace.pause(10.0)
    assert pace.reserve(1, 5.0) == 15.0
    assert pace.reserve(1, 5.0) == 16.0


def test_a_rate_is_only_lowered() -> None:
    pace = Pace(10.0)
    pace.slow_down(0.5)
    pace.slow_down(100.0)
    assert pace.per_second == pytest.approx(0.5)
