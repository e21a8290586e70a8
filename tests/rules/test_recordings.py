"""The recorded series: speeds, GPU hours and money of all runs, through restarts of what serves them."""

from __future__ import annotations

import pytest

from tests.rules.promtool import Promtool
from tests.rules.simulated import GPUS, Run, Samples, at, script, simulate
from trainer.elastic.reasons import Reason


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Two runs; of one the coordinator and the attempt restart."""
    first = script(
        at(60, lambda run: setattr(run, "serving", False)),
        at(62, Run.new_coordinator),
        at(89, lambda run: run.restart(Reason.WORKER_FAILED)),
    )
    return simulate(180, first) | simulate(180, name="other", speed=50_000.0)


def test_tokens_per_second(promtool: Promtool, samples: Samples) -> None:
    found = {
        'run:trainer_tokens:rate5m{namespace="team", run="demo"}': 100_000,
        'run:trainer_tokens:rate5m{namespace="team", run="other"}': 50_000,
    }
    # At minute 75 the coordinator has been another for a while.
    promtool.values(samples, "round(run:trainer_tokens:rate5m)", {30: _unnamed(found), 75: _unnamed(found)})
    promtool.values(samples, "round(cluster:trainer_tokens:rate5m)", {30: {"{}": 150_000}, 75: {"{}": 150_000}})


def test_a_runs_seconds_are_one_series(promtool: Promtool, samples: Samples) -> None:
    query = 'resets(run:trainer_gpu_seconds:max{bucket="training"}[3h]) > bool 0'
    names = [f'{{bucket="training", namespace="team", run="{run}"}}' for run in ("demo", "other")]
    promtool.values(samples, query, {179: dict.fromkeys(names, 0)})
    query = 'count by (run) (run:trainer_goodput_seconds:max{bucket="training"})'
    promtool.values(samples, query, {75: {'{run="demo"}': 1, '{run="other"}': 1}})


def test_gpu_hours_by_bucket(promtool: Promtool, samples: Samples) -> None:
    # Within the hour before minute 121 one run has trained all the time. The other lost the 14 minutes after its save
    # at minute 75, and a minute and a half to come up.
    hours = {
        '{bucket="training"}': GPUS * (60 + 45.5) / 60,
        '{bucket="wasted_progress"}': GPUS * 14 / 60,
        '{bucket="checkpoint_restore"}': GPUS * 1.5 / 60,
        '{bucket="infra_recovery"}': 0,
        '{bucket="init"}': 0,
    }
    expected = {labels: round(value) for labels, value in hours.items()}
    promtool.values(samples, "round(cluster:trainer_gpu_hours:increase1h)", {121: expected})


def test_goodput_of_the_cluster(promtool: Promtool, samples: Samples) -> None:
    promtool.values(samples, "cluster:trainer_goodput:ratio1d > bool 0.9", {175: {"{}": 1}})
    promtool.values(samples, "cluster:trainer_goodput:ratio1d < bool 0.97", {175: {"{}": 1}})


def test_money(promtool: Promtool, samples: Samples) -> None:
    usd = '{currency="USD"}'
    # Two runs at 32 dollars an hour, for three hours; what is not saved yet is not counted yet.
    query = "round(cluster:trainer_run_cost:increase1d, 16)"
    promtool.values(samples, query, {179: {usd: 176}})
    promtool.values(samples, "round(cluster:trainer_run_cost_lost:increase1d)", {179: {usd: 7}})
    promtool.values(samples, "cluster:trainer_run_cost_remaining:sum", {179: {_named(usd): 2000}})


def test_idle_gpus(promtool: Promtool) -> None:
    series: Samples = {
        f'trainer_gpu_utilization_ratio{{namespace="team", run="demo", node="a", gpu="{gpu}"}}': [value] * 60
        for gpu, value in enumerate((0.9, 0.01, 0.0, 0.8))
    }
    promtool.values(series, "cluster:gpus_idle:count", {20: {"cluster:gpus_idle:count": 2}})
    busy = dict(list(series.items())[:1])
    promtool.values(busy, "cluster:gpus_idle:count", {20: {"cluster:gpus_idle:count": 0}})


def _unnamed(found: dict[str, float]) -> dict[str, float]:
    return {labels[labels.index("{") :]: value for labels, value in found.items()}


def _named(labels: str) -> str:
    return f"cluster:trainer_run_cost_remaining:sum{labels}"
