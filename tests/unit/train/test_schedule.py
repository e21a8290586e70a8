"""Learning-rate schedules as functions of the step."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.train.config import CosineConfig, LinearConfig, ScheduleConfig, WarmupStableDecayConfig
from trainer.train.schedule import lr_factor

schedules = st.one_of(
    st.builds(CosineConfig, warmup_steps=st.integers(0, 300), final_ratio=st.floats(0, 1)),
    st.builds(LinearConfig, warmup_steps=st.integers(0, 300), final_ratio=st.floats(0, 1)),
    st.builds(
        WarmupStableDecayConfig,
        warmup_steps=st.integers(0, 300),
        decay_ratio=st.floats(0, 1),
        final_ratio=st.floats(0, 1),
    ),
)


@given(schedule=schedules, total=st.integers(1, 1000), data=st.data())
def test_factor_is_a_share_of_the_peak(schedule: ScheduleConfig, total: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, total - 1))
    assert 0 <= lr_factor(schedule, step, total) <= 1 + 1e-12


@given(schedule=schedules, total=st.integers(3, 1000))
def test_it_rises_and_then_never_rises_again(schedule: ScheduleConfig, total: int) -> None:
    factors = [lr_factor(schedule, step, total) for step in range(total)]
    warmup = min(schedule.warmup_steps, total)
    assert all(a < b for a, b in pairwise(factors[:warmup]))
    after = factors[warmup:]
    assert all(b <= a + 1e-12 for a, b in pairwise(after))


@pytest.mark.parametrize("schedule", [CosineConfig(), LinearConfig(), WarmupStableDecayConfig(warmup_steps=5)])
def test_the_last_step_has_the_final_ratio(schedule: ScheduleConfig) -> None:
    assert lr_factor(schedule, 99, 100) == pytest.approx(schedule.final_ratio)


def test_cosine_against_its_formula() -> None:
    schedule = CosineConfig(warmup_steps=10, final_ratio=0.1)
    assert lr_factor(schedule, 0, 111) == pytest.approx(1 / 11)
    assert lr_factor(schedule, 10, 111) == 1.0
    assert lr_factor(schedule, 60, 111) == pytest.approx(0.55)


def test_wsd_holds_the_peak_until_the_decay() -> None:
    schedule = WarmupStableDecayConfig(warmup_steps=10, decay_ratio=0.2)
    assert [lr_factor(schedule, step, 100) for step in (10, 50, 79)] == [1.0, 1.0, 1.0]
    assert lr_factor(schedule, 80, 100) == pytest.approx(0.95)


def test_a_smoke_run_shorter_than_the_warmup_still_works() -> None:
    assert lr_factor(CosineConfig(warmup_steps=715), 9, 10) == pytest.approx(10 / 716)
