"""The list of metrics holds what dashboards and scripts were promised."""

from __future__ import annotations

import re

from trainer.metrics.catalogue import METRICS

CONTRACT = """
trainer_tokens_total trainer_steps_total trainer_flops_total trainer_attempt trainer_loss trainer_validation_loss
trainer_learning_rate trainer_grad_norm trainer_tokens_per_second trainer_mfu_ratio trainer_world_size
trainer_step_duration_seconds trainer_step_share_ratio trainer_rank_step_seconds trainer_slowest_rank
trainer_nonfinite_steps_total trainer_last_step_timestamp_seconds trainer_checkpoint_last_timestamp_seconds
trainer_checkpoint_bytes trainer_checkpoint_duration_seconds trainer_checkpoint_stall_seconds_total
trainer_checkpoint_failures_total trainer_restarts_total trainer_goodput_seconds_total trainer_run_goodput_ratio
trainer_run_tokens trainer_memory_bytes trainer_eta_timestamp_seconds trainer_run_cost trainer_run_info
trainer_gpu_utilization_ratio trainer_gpu_memory_used_bytes trainer_gpu_power_watts trainer_gpu_temperature_celsius
gptrun_coordinator_members gptrun_coordinator_rounds_total
"""


def test_no_promised_metric_is_missing() -> None:
    assert set(CONTRACT.split()) <= set(METRICS)


def test_names_follow_prometheus() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"(trainer|gptrun)_[a-z_]+", name)
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert not {"pod", "rank", "attempt"} & set(metric.labels)
