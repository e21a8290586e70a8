"""Saves and failures: the formulas against simulated runs of many machines."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan.simulated_run import simulated_goodput
from trainer.plan.failures import expected_goodput_ratio, mean_seconds_between_failures, young_daly_seconds

DAY = 86400.0


@pytest.mark.parametrize(
    ("nodes", "days_per_node", "restart", "interval", "save"),
    [
        (16, 20.0, 120.0, 1800.0, 5.0),
        (64, 60.0, 120.0, 900.0, 1.0),
        (128, 153.8, 300.0, 3600.0, 20.0),
        (8, 153.8, 600.0, 900.0, 10.0),
        (1250, 50.0, 600.0, 900.0, 5.0),  # an hour between failures: rare they are not
    ],
)
def test_expected_goodput_is_that_of_a_simulated_run(
    nodes: int, days_per_node: float, restart: float, interval: float, save: float
) -> None:
    simulated = simulated_goodput(
        nodes,
        mtbf_per_node_seconds=days_per_node * DAY,
        restart_seconds=restart,
        interval_seconds=interval,
        save_seconds=save,
    )
    expected = expected_goodput_ratio(
        between_failures_seconds=days_per_node * DAY / nodes,
        restart_seconds=restart,
        save_interval_seconds=interval,
        save_seconds=save,
    )
    assert expected == pytest.approx(simulated, abs=0.01)


def test_the_best_interval_is_best_in_a_simulated_run() -> None:
    mtbf, save = 4 * 3600.0, 30.0
    best = young_daly_seconds(save, mtbf)

    def goodput(interval: float) -> float:
        return simulated_goodput(
            4, mtbf_per_node_seconds=4 * mtbf, restart_seconds=60.0, interval_seconds=interval, save_seconds=save
        )

    assert goodput(best) > goodput(best / 4)
    assert goodput(best) > goodput(best * 4)


def test_rsc_1_loses_a_machine_of_128_in_about_a_day() -> None:
    assert mean_seconds_between_failures(128, 6.5) == pytest.approx(1.2 * DAY, rel=0.01)
    assert math.isinf(mean_seconds_between_failures(128, 0))


def test_youngs_interval_where_saves_are_cheap() -> None:
    assert young_daly_seconds(1.0, 1e6) == pytest.approx(math.sqrt(2e6), rel=0.01)
    assert young_daly_seconds(300.0, 150.0) == 150.0
    assert young_daly_seconds(0.0, 1e6) == 0.0
    assert math.isinf(young_daly_seconds(1.0, math.inf))


@given(st.floats(1e2, 1e8), st.floats(1e-3, 3.0))
def test_no_interval_is_much_better_than_the_best(between: float, save_share: float) -> None:
    save = save_share * between

    def goodput(interval: float) -> float:
        return expected_goodput_ratio(
            between_failures_seconds=between, restart_seconds=0.0, save_interval_seconds=interval, save_seconds=save
        )

    most = max(goodput(between * share / 1000) for share in range(10, 2000))
    assert goodput(young_daly_seconds(save, between)) > 0.998 * most


@given(st.floats(1e3, 1e8), st.floats(0, 1e4), st.floats(1, 1e5), st.floats(0, 1e3), st.floats(1.01, 10))
def test_goodput_is_a_share_and_falls_with_every_cost(
    between: float, restart: float, interval: float, save: float, factor: float
) -> None:
    def ratio(between: float, restart: float, save: float) -> float:
        return expected_goodput_ratio(
            between_failures_seconds=between,
            restart_seconds=restart,
            save_interval_seconds=interval,
            save_seconds=save,
        )

    now = ratio(between, restart, save)
    assert 0 <= now <= 1
    assert ratio(between * factor, restart, save) >= now
    assert ratio(between, restart * factor, save) <= now
    assert ratio(between, restart, save * factor) <= now
