"""The account of a run's time: it adds up, over attempts and whatever the clocks say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.metrics.goodput import Bucket, GoodputClock, Ledger, resumed

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Hands:
    """A clock that is moved by hand; the wall clock can jump on its own."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.wall = NOON

    def forward(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds)

    def clock(self, began: datetime) -> GoodputClock:
        return GoodputClock(began=began, clock=lambda: self.seconds, now=lambda: self.wall)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_seconds_go_to_what_was_entered_last() -> None:
    hands = Hands()
    clock = hands.clock(at(-5))
    hands.forward(1)
    clock.enter(Bucket.TRAINING_PREP)
    hands.forward(2)
    clock.settle(Ledger(time=at(-5)).spend(Bucket.INIT, 3, 4), 4, restart=False)
    clock.enter(Bucket.TRAINING)
    hands.forward(10)
    ledger = clock.ledger()
    assert ledger.seconds == {Bucket.INIT: 3 + 6, Bucket.TRAINING_PREP: 2, Bucket.TRAINING: 10}
    assert ledger.gpu_seconds == {bucket: 4 * seconds for bucket, seconds in ledger.seconds.items()}
    assert ledger.lost_gpu_seconds == 0
    assert ledger.time == at(13)
    assert ledger.goodput_ratio == pytest.approx(10 / 21)
    assert Ledger.from_json(ledger.to_json()) == ledger


def test_a_stretch_begins_anew() -> None:
    hands = Hands()
    clock = hands.clock(NOON)
    hands.forward(7)
    clock.begin_stretch()
    hands.forward(1)
    clock.enter(Bucket.TRAINING)
    hands.forward(2)
    clock.enter(Bucket.OTHER)
    assert clock.stretch_seconds == {Bucket.INIT: 1, Bucket.TRAINING: 2}


def test_work_since_the_checkpoint_was_in_vain_and_the_gap_is_recovery() -> None:
    restored = Ledger(at(50), {Bucket.INIT: 10, Bucket.TRAINING: 40}, {Bucket.INIT: 20, Bucket.TRAINING: 80})
    last = Ledger(at(80), {Bucket.INIT: 10, Bucket.TRAINING: 70}, {Bucket.INIT: 20, Bucket.TRAINING: 140})
    # The launcher came back 15 s before its worker: only these seconds are paid for.
    account = resumed(last, restored, gpus=2, began=at(200), held_since=at(185))
    assert account.seconds == {
        Bucket.INIT: 10,
        Bucket.TRAINING: 40,
        Bucket.WASTED_PROGRESS: 30,
        Bucket.INFRA_RECOVERY: 120,
    }
    assert account.gpu_seconds[Bucket.INFRA_RECOVERY] == 30
    assert account.lost_gpu_seconds == 60 + 30
    assert account.time == at(200)


def test_a_launcher_that_stayed_paid_for_the_whole_gap() -> None:
    account = resumed(Ledger(at(0)), None, gpus=8, began=at(10), held_since=at(-1000))
    assert account.gpu_seconds[Bucket.INFRA_RECOVERY] == 80


def test_from_step_0_all_training_was_in_vain() -> None:
    account = resumed(
        Ledger(at(9), {Bucket.TRAINING: 9}, {Bucket.TRAINING: 9}), None, gpus=1, began=at(9), held_since=at(9)
    )
    assert account.seconds[Bucket.TRAINING] == 0
    assert account.seconds[Bucket.WASTED_PROGRESS] == 9


def test_a_checkpoint_newer_than_every_line_is_where_the_gap_begins() -> None:
    restored = Ledger(at(60), {Bucket.TRAINING: 60}, {Bucket.TRAINING: 60})
    account = resumed(Ledger(at(20), {Bucket.TRAINING: 20}), restored, gpus=1, began=at(70), held_since=at(70))
    assert account.seconds[Bucket.TRAINING] == 60
    assert account.seconds[Bucket.INFRA_RECOVERY] == 10


def test_starts_after_the_first_are_lost() -> None:
    hands = Hands()
    clock = hands.clock(NOON)
    hands.forward(3)
    clock.settle(Ledger(time=NOON), 2, restart=True)
    clock.enter(Bucket.TRAINING)
    hands.forward(5)
    assert clock.ledger().lost_gpu_seconds == 6


def test_a_wall_clock_that_jumps_spoils_no_second_within_an_attempt() -> None:
    hands = Hands()
    clock = hands.clock(NOON)
    hands.wall += timedelta(days=400)
    hands.forward(4)
    assert sum(clock.ledger().seconds.values()) == 4
    back = resumed(Ledger(at(100)), None, gpus=1, began=at(0), held_since=at(0))
    assert back.seconds[Bucket.INFRA_RECOVERY] == 0


@given(gaps=st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4), st.booleans()), max_size=8))
def test_buckets_add_up_to_the_wall_time_over_any_attempts(gaps: list[tuple[float, float, float, bool]]) -> None:
    hands, past, restored = Hands(), None, None
    for gap, train, tail, saved in gaps:
        clock = hands.clock(hands.wall)
        if past is not None:
            started = hands.wall
            account = resumed(past, restored, gpus=3, began=started, held_since=started - timedelta(seconds=gap / 2))
            clock.settle(account, 3, restart=True)
        clock.enter(Bucket.TRAINING)
        hands.forward(train)
        if saved:
            restored = clock.ledger()
        hands.forward(tail)
        past = clock.ledger()
        hands.forward(gap)
    if past is not None:
        assert sum(past.seconds.values()) == pytest.approx((past.time - NOON).total_seconds(), abs=0.01)
        assert past.seconds.get(Bucket.TRAINING, 0.0) >= (restored.seconds[Bucket.TRAINING] if restored else 0) - 1e-6
