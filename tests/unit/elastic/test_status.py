"""What `/status` and `/metrics` make of rank 0's reports and of what the coordinator sees."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from trainer.elastic.reported import Reported
from trainer.elastic.rounds import Finish, Seen, Wait
from trainer.elastic.status import RunStatus
from trainer.metrics.catalogue import METRICS, STEP_SECONDS

NOBODY = Seen(hold_until=0.0)


def totals(attempt: str, **changed: Any) -> dict[str, Any]:
    counts = {"tokens": 0, "steps": 0, "flops": 0.0, "nonfinite_steps": 0, "checkpoint_stall_seconds": 0.0}
    durations = {"step_durations_sum": 0.0, "step_durations": [0] * (len(STEP_SECONDS) + 1)}
    return {"totals": {"attempt": attempt, **counts, "checkpoint_failures": 0, **durations, **changed}}


def account(**seconds: float) -> dict[str, Any]:
    return {"goodput_seconds": seconds, "settled_seconds": seconds, "settled_gpu_seconds": seconds}


def value(status: RunStatus, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(status.metrics().decode()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise KeyError(name)


def test_either_half_of_an_account_may_come_alone() -> None:
    # A pipe takes lines of a limited size, so that a worker's report may come in two.
    status = RunStatus()
    status.look_at("small", NOBODY, Wait("nobody is here"), now=0.0)
    status.report({"settled_gpu_seconds": {"training": 8.0}})
    assert value(status, "trainer_gpu_seconds_total", bucket="training") == 8
    status.report({"settled_seconds": {"training": 4.0}})
    assert value(status, "trainer_goodput_seconds_total", bucket="training") == 4
    assert value(status, "trainer_gpu_seconds_total", bucket="training") == 8


def test_totals_are_counted_over_attempts_and_lost_messages() -> None:
    status = RunStatus()
    status.look_at("small", NOBODY, Wait("nobody is here"), now=0.0)
    assert value(status, "trainer_checkpoint_failures_total", run="small") == 0
    status.round_formed(None)
    status.report(totals("a0001", checkpoint_failures=1, steps=5))
    status.report(totals("a0001", checkpoint_failures=3, steps=9))  # the message of the second got lost
    status.report(totals("a0001", checkpoint_failures=3, steps=9))
    assert value(status, "trainer_checkpoint_failures_total") == 3
    status.round_formed("Preempted")
    status.report(totals("a0001", checkpoint_failures=3, steps=10))  # on its way while the round ended
    status.report(totals("a0002", checkpoint_failures=1, steps=2))
    status.report(totals("a0001", steps=10))
    assert value(status, "trainer_checkpoint_failures_total") == 4
    assert value(status, "trainer_steps_total") == 12
    assert value(status, "trainer_restarts_total", reason="Preempted") == 1
    assert value(status, "trainer_restarts_total", reason="Hung") == 0


def test_the_ten_thousandth_attempt_counts_as_those_before() -> None:
    status = RunStatus()
    status.round_formed(None)
    for number, attempt in enumerate(("a9999", "a10000", "a10001"), start=1):
        status.report(totals(attempt, steps=5))
        assert value(status, "trainer_steps_total") == 5 * number


def test_a_coordinator_that_takes_over_counts_what_follows() -> None:
    status = RunStatus()
    status.report(totals("a0007", steps=1000, step_durations_sum=50.0))
    assert value(status, "trainer_steps_total") == 0
    status.report(totals("a0007", steps=1010, step_durations_sum=51.0))
    assert value(status, "trainer_steps_total") == 10
    assert value(status, "trainer_step_duration_seconds_sum") == 1


def test_the_histogram_cumulates() -> None:
    status = RunStatus()
    status.round_formed(None)
    counts = [0, 2, 0, 1] + [0] * (len(STEP_SECONDS) - 4) + [1]
    status.report(totals("a0001", step_durations=counts, step_durations_sum=99.0))
    assert value(status, "trainer_step_duration_seconds_bucket", le="0.01") == 0
    assert value(status, "trainer_step_duration_seconds_bucket", le="0.05") == 2
    assert value(status, "trainer_step_duration_seconds_bucket", le="60") == 3
    assert value(status, "trainer_step_duration_seconds_count") == 4


def test_time_without_workers_is_recovery_until_the_next_attempt_says_so_itself() -> None:
    status = RunStatus()
    status.round_formed(None)
    status.report({**totals("a0001"), **account(training=10.0, init=2.0)})
    status.look_at("small", NOBODY, Wait("too few"), now=100.0)
    status.look_at("small", NOBODY, Wait("too few"), now=130.0)
    assert value(status, "trainer_goodput_seconds_total", bucket="infra_recovery") == 30
    assert status.document()["goodput_seconds"] == {"training": 10.0, "init": 2.0, "infra_recovery": 30.0}
    # The new attempt has counted from the last line of the one before; the counter never falls.
    status.report({**totals("a0002"), **account(training=8.0, wasted_progress=2.0, init=2.0, infra_recovery=29.0)})
    assert value(status, "trainer_goodput_seconds_total", bucket="infra_recovery") == 30
    assert value(status, "trainer_goodput_seconds_total", bucket="wasted_progress") == 2
    assert value(status, "trainer_goodput_seconds_total", bucket="training") == 10
    assert value(status, "trainer_run_goodput_seconds", bucket="training") == 8
    assert value(status, "trainer_run_goodput_seconds", bucket="infra_recovery") == 29
    assert status.document()["goodput_seconds"]["infra_recovery"] == 29
    status.look_at("small", NOBODY, Finish(0, None, "done"), now=500.0)
    assert value(status, "trainer_goodput_seconds_total", bucket="infra_recovery") == 30


def test_the_share_of_training_falls_while_nobody_trains() -> None:
    status = RunStatus()
    status.round_formed(None)
    status.report({**totals("a0001"), **account(training=60.0, init=40.0), "goodput_ratio": 0.6})
    status.look_at("small", NOBODY, Wait("suspended"), now=0.0)
    status.look_at("small", NOBODY, Wait("suspended"), now=100.0)
    assert value(status, "trainer_run_goodput_ratio") == 0.3


def test_nobody_keeps_a_gpu_busy_whose_workers_are_gone() -> None:
    status = RunStatus()
    status.report(
        {"gpus": [{"node": "a", "gpu": 0, "utilization_ratio": 0.9}], "hosts": [{"host": "a", "cpu_ratio": 1}]}
    )
    assert value(status, "trainer_gpu_utilization_ratio", node="a") == 0.9
    status.look_at("small", NOBODY, Wait("suspended"), now=0.0)
    for name in ("trainer_gpu_utilization_ratio", "trainer_node_cpu_ratio"):
        with pytest.raises(KeyError):
            value(status, name)


def test_what_is_not_a_number_is_null_and_not_broken_json() -> None:
    status = RunStatus()
    nan = float("nan")
    said = {"loss": 2.0, "validation_loss": nan, "grad_norm": float("inf"), "shares": {"data": nan, "other": 1.0}}
    places = {"hosts": [{"host": "a", "cpu_ratio": nan}]}
    fields = Reported.model_validate({**said, **places}).fields
    assert json.loads(json.dumps(fields, allow_nan=False)) == {
        "loss": 2.0,
        "validation_loss": None,
        "grad_norm": None,
        "shares": {"data": None, "other": 1.0},
        "hosts": [{"host": "a", "cpu_ratio": None}],
    }
    status.report(fields)
    assert value(status, "trainer_loss") == 2
    with pytest.raises(KeyError):
        value(status, "trainer_validation_loss")
    for attempt in ("a12", "0001", "a0001\n"):
        with pytest.raises(ValidationError):
            Reported.model_validate(totals(attempt))


def test_nobody_trains_at_the_speed_of_before() -> None:
    status = RunStatus()
    status.report({"phase": "training", "tokens_per_second": 500.0, "mfu_ratio": 0.4})
    status.look_at("small", NOBODY, Wait("too few"), now=1.0)
    assert value(status, "trainer_tokens_per_second") == 0
    assert value(status, "trainer_mfu_ratio") == 0
    assert value(status, "trainer_phase", phase="waiting") == 1
    assert value(status, "trainer_phase", phase="training") == 0


def test_every_metric_of_the_catalogue_can_be_filled_and_odd_labels_survive() -> None:
    status = RunStatus()
    status.round_formed(None)
    odd = 'no"de\\1\n'
    places = {
        "gpus": [{"node": odd, "gpu": 0, "utilization_ratio": 0.9, "memory_used_bytes": 1, "power_watts": 300.0}],
        "hosts": [{"host": odd, "cpu_ratio": 0.5, "memory_used_bytes": 1, "disk_free_bytes": 1}],
    }
    places["gpus"][0]["temperature_celsius"] = 60.0
    places["hosts"][0]["network_bytes_per_second"] = 0.0
    time = "2026-01-01T00:00:00+00:00"
    status.report(
        {
            **totals("a0001"),
            **account(training=1.0),
            **places,
            **dict.fromkeys(("loss", "validation_loss", "lr", "grad_norm", "tokens_per_second", "mfu_ratio"), 0.5),
            **dict.fromkeys(("slowest_rank", "step", "steps_total", "tokens"), 1),
            **dict.fromkeys(("checkpoint_bytes", "checkpoint_duration_seconds", "checkpoint_interval_seconds"), 1.0),
            "attempt": "a0001",
            "phase": "training",
            "goodput_ratio": 0.9,
            "shares": {"data": 0.1},
            "rank_step_seconds": {"min": 1.0, "median": 2.0, "max": 3.0},
            "memory": {"resident": 1},
            "last_progress_time": time,
            "eta_time": time,
            "last_checkpoint": {"name": "step-00000001-a0001", "step": 1, "time": time, "url": "s3://b/x"},
            "cost": {"spent": 1.0, "remaining": 2.0, "lost": 0.5, "per_billion_tokens": 3.0, "currency": "EUR"},
            "info": {"version": "1", "model": "gpt2"},
        }
    )
    status.look_at("small", NOBODY, Wait(""), now=1.0)
    status.report(places)
    families = {family.name: family for family in text_string_to_metric_families(status.metrics().decode())}
    names = {name.removesuffix("_total") if METRICS[name].kind == "counter" else name for name in METRICS}
    assert {name for name, family in families.items() if family.samples} == names
    assert families["trainer_gpu_power_watts"].samples[0].labels["node"] == odd
