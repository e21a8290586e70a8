"""Every metric of a run, by name: what it is, in which unit, with which labels beside `run`.

One list for the exporter, the reference page, and the tests that hold dashboards and rules against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Upper bounds of trainer_step_duration_seconds.
STEP_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True)
class Metric:
    """One metric; the label `run` goes without saying."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


_COUNTERS = (
    Metric("trainer_tokens_total", "counter", "Training tokens, those of steps done again included"),
    Metric("trainer_steps_total", "counter", "Optimizer steps, those done again included"),
    Metric("trainer_flops_total", "counter", "Model FLOP by 6N + 12LdT a token, of those steps"),
    Metric("trainer_nonfinite_steps_total", "counter", "Steps skipped for a loss or gradient that is not a number"),
    Metric("trainer_checkpoint_stall_seconds_total", "counter", "Seconds that training waited for saves"),
    Metric("trainer_checkpoint_failures_total", "counter", "Saves that failed; training went on"),
    Metric("trainer_restarts_total", "counter", "Rounds after the first, by what ended the one before", ("reason",)),
    Metric(
        "trainer_goodput_seconds_total",
        "counter",
        "Seconds of the run's whole life by bucket, as of the newest checkpoint",
        ("bucket",),
    ),
    Metric(
        "trainer_gpu_seconds_total",
        "counter",
        "The same seconds times the GPUs that were held (workers, where there is none)",
        ("bucket",),
    ),
    Metric("gptrun_coordinator_rounds_total", "counter", "Rounds formed, by what ended the one before", ("reason",)),
)
_GAUGES = (
    Metric("trainer_attempt", "gauge", "Number of the attempt"),
    Metric("trainer_phase", "gauge", "1 for the phase the run is in, 0 for the others", ("phase",)),
    Metric("trainer_loss", "gauge", "Loss of the newest logged step, nats per token"),
    Metric("trainer_validation_loss", "gauge", "Newest validation loss, nats per token"),
    Metric("trainer_learning_rate", "gauge", "Learning rate of the newest logged step"),
    Metric("trainer_grad_norm", "gauge", "Gradient norm before clipping, of the newest logged step"),
    Metric("trainer_tokens_per_second", "gauge", "Training tokens per second of the newest interval"),
    Metric("trainer_mfu_ratio", "gauge", "Model FLOP utilization of all GPUs together"),
    Metric("trainer_world_size", "gauge", "Workers that train"),
    Metric("trainer_step_share_ratio", "gauge", "Share of the newest interval that went into a part", ("part",)),
    Metric(
        "trainer_rank_step_seconds",
        "gauge",
        "A rank's own work in the newest profiled step, without waiting for others",
        ("stat",),
    ),
    Metric("trainer_slowest_rank", "gauge", "The rank that had most work of its own in that step"),
    Metric("trainer_last_step_timestamp_seconds", "gauge", "When the newest step ended"),
    Metric("trainer_checkpoint_last_timestamp_seconds", "gauge", "When the newest checkpoint was committed"),
    Metric("trainer_checkpoint_bytes", "gauge", "Size of the newest checkpoint"),
    Metric("trainer_checkpoint_duration_seconds", "gauge", "From the newest checkpoint's first byte to its commit"),
    Metric("trainer_checkpoint_interval_seconds", "gauge", "Seconds between saves as configured, at the speed of now"),
    Metric("trainer_run_goodput_ratio", "gauge", "Training's share of the run's whole life"),
    Metric(
        "trainer_run_goodput_seconds",
        "gauge",
        "Seconds of the run's whole life by bucket, as things stand: at a fault, training turns into wasted_progress",
        ("bucket",),
    ),
    Metric("trainer_run_tokens", "gauge", "Training tokens that led to the weights of now"),
    Metric("trainer_run_steps", "gauge", "Steps that led to the weights of now"),
    Metric("trainer_run_steps_planned", "gauge", "Steps of the whole run"),
    Metric("trainer_memory_bytes", "gauge", "Memory of rank 0", ("kind",)),
    Metric("trainer_eta_timestamp_seconds", "gauge", "When the run will end at the speed of now"),
    Metric("trainer_run_cost", "gauge", "Spent so far", ("currency",)),
    Metric("trainer_run_cost_remaining", "gauge", "To be spent until the end at the speed of now", ("currency",)),
    Metric("trainer_run_cost_lost", "gauge", "Of what was spent, what faults cost", ("currency",)),
    Metric(
        "trainer_run_info",
        "gauge",
        "1, with what the run is in its labels",
        ("version", "model", "parameters", "precision", "config_sha256", "image", "git_commit"),
    ),
    Metric("trainer_gpu_utilization_ratio", "gauge", "Share of time in which a kernel ran, by NVML", ("node", "gpu")),
    Metric("trainer_gpu_memory_used_bytes", "gauge", "Memory in use on the GPU", ("node", "gpu")),
    Metric("trainer_gpu_power_watts", "gauge", "Power draw of the GPU, by NVML", ("node", "gpu")),
    Metric("trainer_gpu_temperature_celsius", "gauge", "Temperature of the GPU, by NVML", ("node", "gpu")),
    Metric("trainer_node_cpu_ratio", "gauge", "Busy share of the node's CPUs", ("node",)),
    Metric("trainer_node_memory_used_bytes", "gauge", "Memory of the node that is not available", ("node",)),
    Metric("trainer_node_disk_free_bytes", "gauge", "Free bytes of the working folder's file system", ("node",)),
    Metric("trainer_node_network_bytes_per_second", "gauge", "In and out, without loopback", ("node",)),
    Metric("gptrun_coordinator_members", "gauge", "Launchers that are here"),
)
_HISTOGRAMS = (Metric("trainer_step_duration_seconds", "histogram", "Seconds from batch to update, rank 0's"),)

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_COUNTERS, *_HISTOGRAMS, *_GAUGES)}
