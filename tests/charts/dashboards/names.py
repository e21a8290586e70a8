"""The series that dashboards may ask for: the trainer's by the contract, exporters' by what they are told to make."""

from __future__ import annotations

from charts.generator.values import PLATFORM

# Metric -> its labels besides `run`.
TRAINER: dict[str, tuple[str, ...]] = {
    "gptrun_coordinator_members": (),
    "gptrun_coordinator_rounds_total": ("reason",),
    "trainer_attempt": (),
    "trainer_checkpoint_bytes": (),
    "trainer_checkpoint_duration_seconds": (),
    "trainer_checkpoint_failures_total": (),
    "trainer_checkpoint_interval_seconds": (),
    "trainer_checkpoint_last_timestamp_seconds": (),
    "trainer_checkpoint_stall_seconds_total": (),
    "trainer_eta_timestamp_seconds": (),
    "trainer_flops_total": (),
    "trainer_goodput_seconds_total": ("bucket",),
    "trainer_gpu_memory_used_bytes": ("node", "gpu"),
    "trainer_gpu_power_watts": ("node", "gpu"),
    "trainer_gpu_seconds_total": ("bucket",),
    "trainer_gpu_temperature_celsius": ("node", "gpu"),
    "trainer_gpu_utilization_ratio": ("node", "gpu"),
    "trainer_grad_norm": (),
    "trainer_last_step_timestamp_seconds": (),
    "trainer_learning_rate": (),
    "trainer_loss": (),
    "trainer_memory_bytes": ("kind",),
    "trainer_mfu_ratio": (),
    "trainer_node_cpu_ratio": ("node",),
    "trainer_node_disk_free_bytes": ("node",),
    "trainer_node_memory_used_bytes": ("node",),
    "trainer_node_network_bytes_per_second": ("node",),
    "trainer_nonfinite_steps_total": (),
    "trainer_phase": ("phase",),
    "trainer_rank_step_seconds": ("stat",),
    "trainer_restarts_total": ("reason",),
    "trainer_run_cost": ("currency",),
    "trainer_run_cost_lost": ("currency",),
    "trainer_run_cost_remaining": ("currency",),
    "trainer_run_goodput_ratio": (),
    "trainer_run_info": ("version", "model", "parameters", "precision", "config_sha256", "image", "git_commit"),
    "trainer_run_steps": (),
    "trainer_run_steps_planned": (),
    "trainer_run_tokens": (),
    "trainer_slowest_rank": (),
    "trainer_step_duration_seconds_bucket": ("le",),
    "trainer_step_share_ratio": ("part",),
    "trainer_steps_total": (),
    "trainer_tokens_per_second": (),
    "trainer_tokens_total": (),
    "trainer_validation_loss": (),
    "trainer_world_size": (),
}
NODE_EXPORTER = frozenset(
    {
        "node_cpu_seconds_total",
        "node_filesystem_avail_bytes",
        "node_memory_MemAvailable_bytes",
        "node_memory_MemTotal_bytes",
        "node_network_receive_bytes_total",
        "node_network_transmit_bytes_total",
        "node_uname_info",
    }
)


def dcgm() -> dict[str, str]:
    """Metric -> type, of the counters that the platform's chart gives to dcgm-exporter."""
    lines = (PLATFORM / "files" / "dcgm-counters.csv").read_text().splitlines()
    fields = [[part.strip() for part in line.split(",")] for line in lines if line and not line.startswith("#")]
    return {name: kind for name, kind, _ in fields}


def all_names() -> frozenset[str]:
    """Every series that may be asked for."""
    return frozenset(TRAINER) | NODE_EXPORTER | frozenset(dcgm())
