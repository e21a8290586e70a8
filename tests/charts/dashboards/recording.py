"""What a Prometheus would have recorded of two runs and their nodes, made up: four hours, with a fault and a scale.

`demo` runs on two nodes of two GPUs, one of them with exporters, and its coordinator is replaced in the middle; `other`
ran earlier, on the first node.
"""

from __future__ import annotations

import math
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.tools.prometheus import prometheus_programs

SCRAPE_SECONDS = 15
SINCE = 1_790_000_000
UNTIL = SINCE + 4 * 3600
_FAULT, _BACK = SINCE + 9000, SINCE + 9300
_PHASES = ("waiting", "starting", "restoring", "training", "evaluating", "saving", "draining", "finished", "failed")
_BUCKETS = (
    "init", "training_prep", "checkpoint_restore", "program_start", "data_loading", "training", "checkpoint_save",
    "evaluation", "wasted_progress", "infra_recovery", "other",
)  # fmt: skip
_PARTS = {
    "data": 0.02,
    "forward_backward": 0.7,
    "communication": 0.15,
    "optimizer": 0.08,
    "checkpoint": 0.03,
    "other": 0.02,
}

Sample = tuple[str, dict[str, str], float]


def write(folder: Path, text: str) -> None:
    """Write the blocks of a Prometheus' data folder, by promtool."""
    lines = folder / "recorded.txt"
    lines.write_text(text)
    command = [
        str(prometheus_programs().promtool),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(lines),
        str(folder / "data"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    lines.unlink()


def openmetrics(*, exporters: bool = True) -> str:
    """All samples in OpenMetrics' text form, with or without those of dcgm-exporter and node-exporter."""
    families: dict[str, list[str]] = defaultdict(list)
    for moment in range(SINCE, UNTIL + 1, SCRAPE_SECONDS):
        for name, labels, value in _scrape(moment):
            if not exporters and name.startswith(("DCGM_", "node_")):
                continue
            text = ",".join(f'{key}="{content}"' for key, content in labels.items())
            families[name].append(f"{name}{{{text}}} {value} {moment}")
    body = [line for name, lines in sorted(families.items()) for line in (f"# TYPE {name} unknown", *lines)]
    return "\n".join([*body, "# EOF"]) + "\n"


def _scrape(moment: int) -> Iterator[Sample]:
    if moment < SINCE + 3600:
        yield from _run("other", moment, began=SINCE, world=1, speed=90_000, level=0.1)
    if moment < _FAULT or moment >= _FAULT + 60:
        yield from _run("demo", moment, began=SINCE + 1800, world=4, speed=200_000, level=0.0)
    yield from _hardware(moment)
    yield from _operator(moment)


def _operator(moment: int) -> Iterator[Sample]:
    """Two replicas, one of which acts; at the fault it replaced a pod."""
    age = moment - SINCE
    for pod, acts in (("operator-a", 1), ("operator-b", 0)):
        labels = {"namespace": "gpt-run-system", "pod": pod}
        yield "gptrun_operator_leader", labels, acts
        if not acts:
            continue
        for phase, count in {"Running": 2.0, "Suspended": 1.0}.items():
            yield "gptrun_operator_runs", {**labels, "phase": phase}, count
        done = {**labels, "action": "ForceDeletePod", "reason": "NodeLost"}
        yield "gptrun_operator_actions_total", done, float(moment >= _FAULT)
        for le, share in {"0.5": 0.9, "2.0": 1.0, "+Inf": 1.0}.items():
            yield "gptrun_operator_event_to_action_seconds_bucket", {**labels, "le": le}, share * age / 60
        yield "gptrun_operator_reconcile_errors_total", labels, age // 3600
        for outcome, share in {"answered": 0.98, "timeout": 0.02}.items():
            yield "gptrun_operator_coordinator_polls_total", {**labels, "outcome": outcome}, share * age / 10


def _run(run: str, moment: int, *, began: int, world: int, speed: float, level: float) -> Iterator[Sample]:
    """What a run's coordinator says; the second one of `demo` begins its own counters anew."""
    age = moment - began
    if age < 0:
        return
    second = run == "demo" and moment >= _FAULT + 60
    down = run == "demo" and _FAULT <= moment < _BACK
    world = 0 if down else 2 if second else world
    # A checkpoint every ten minutes; the fault costs what came after the last.
    lost = (_FAULT - began) % 600 if second else 0
    away = (min(moment, _BACK) - _FAULT) if second else 0
    trained = max(0.0, age - 60.0 - lost - away)
    tokens = trained * speed
    labels = {"run": run, "namespace": "ml", "pod": f"{run}-coordinator-{int(second)}", "instance": f"{run}:29480"}
    own = moment - (_FAULT + 60 if second else began)

    def gauge(name: str, value: float, **more: str) -> Sample:
        return f"trainer_{name}", {**labels, **more}, value

    loss = level + 2.5 + 8 * math.exp(-tokens / 3e8) + 0.02 * math.sin(moment / 40)
    save = began + age // 600 * 600
    yield from (
        gauge("attempt", 1 + second), gauge("loss", loss), gauge("validation_loss", loss + 0.05),
        gauge("learning_rate", 6e-4 * min(1.0, trained / 600)), gauge("grad_norm", 1.2 + 0.3 * math.sin(moment / 90)),
        gauge("tokens_per_second", 0 if down else speed), gauge("mfu_ratio", 0 if down else 0.42),
        gauge("world_size", world), gauge("last_step_timestamp_seconds", _FAULT if down else moment - 2),
        gauge("checkpoint_last_timestamp_seconds", min(save, _FAULT) if down else save),
        gauge("checkpoint_bytes", 9e9), gauge("checkpoint_duration_seconds", 25 + 3 * math.sin(moment / 900)),
        gauge("checkpoint_interval_seconds", 600), gauge("run_goodput_ratio", trained / max(1, age)),
        gauge("run_tokens", tokens), gauge("run_steps", tokens // 500_000), gauge("run_steps_planned", 10_000),
        gauge("eta_timestamp_seconds", moment + (5e9 - tokens) / speed), gauge("slowest_rank", moment // 60 % 4),
        gauge("run_cost", age * 4 * 2.5 / 3600, currency="USD"), gauge("run_cost_remaining", 80.0, currency="USD"),
        gauge("run_cost_lost", (lost + away) * 4 * 2.5 / 3600, currency="USD"),
        gauge(
            "run_info", 1, version="0.1.0", model="gpt2", parameters="124000000", precision="bf16",
            config_sha256="abc" + run, image="trainer:0.1.0", git_commit="0123abc",
        ),
        gauge("tokens_total", own * speed), gauge("steps_total", own * speed / 500_000),
        gauge("flops_total", own * 1e14), gauge("nonfinite_steps_total", 1 if own > 3000 else 0),
        gauge("checkpoint_stall_seconds_total", own // 600 * 1.5), gauge("checkpoint_failures_total", own // 5000),
        ("gptrun_coordinator_members", labels, world),
        ("gptrun_coordinator_rounds_total", {**labels, "reason": "Scaled"}, 1),
    )  # fmt: skip
    phase = "waiting" if down else "starting" if age < 60 else "saving" if age % 600 < 30 else "training"
    for name in _PHASES:
        yield gauge("phase", float(name == phase), phase=name)
    spent = {
        "training": trained * 0.93,
        "checkpoint_save": trained * 0.04,
        "other": trained * 0.03,
        "init": min(age, 60),
    }
    spent |= {"wasted_progress": lost, "infra_recovery": away}
    for bucket in _BUCKETS:
        yield gauge("goodput_seconds_total", spent.get(bucket, 0), bucket=bucket)
        yield gauge("run_goodput_seconds", spent.get(bucket, 0), bucket=bucket)
        yield gauge("gpu_seconds_total", spent.get(bucket, 0) * 4, bucket=bucket)
    for part, share in _PARTS.items():
        yield gauge("step_share_ratio", share, part=part)
    for stat, seconds in {"min": 0.91, "median": 0.95, "max": 1.2}.items():
        yield gauge("rank_step_seconds", seconds, stat=stat)
    for kind, size in {"allocated": 60e9, "reserved": 70e9, "total": 80e9}.items():
        yield gauge("memory_bytes", size, kind=kind)
    for reason in ("NodeLost", "WorkerFailed"):
        yield gauge("restarts_total", float(second and reason == "NodeLost" and moment >= _BACK), reason=reason)
    for le, share in {"0.5": 0.0, "1.0": 0.6, "2.5": 0.98, "+Inf": 1.0}.items():
        yield gauge("step_duration_seconds_bucket", own * share, le=le)
    yield from _fill_ins(labels, moment, down)


def _fill_ins(labels: dict[str, str], moment: int, down: bool) -> Iterator[Sample]:
    for node in ("node-a", "node-b") if labels["run"] == "demo" else ("node-a",):
        for gpu in ("0", "1"):
            where = {**labels, "node": node, "gpu": gpu}
            yield "trainer_gpu_utilization_ratio", where, 0.0 if down else 0.9 + 0.05 * math.sin(moment / 60)
            yield "trainer_gpu_memory_used_bytes", where, 70e9
            yield "trainer_gpu_power_watts", where, 90.0 if down else 550 + 50 * math.sin(moment / 70)
            yield "trainer_gpu_temperature_celsius", where, 40.0 if down else 66 + 3 * math.sin(moment / 500)
        where = {**labels, "node": node}
        yield "trainer_node_cpu_ratio", where, 0.3
        yield "trainer_node_memory_used_bytes", where, 200e9
        yield "trainer_node_disk_free_bytes", where, 800e9 - (moment - SINCE) * 1e6
        yield "trainer_node_network_bytes_per_second", where, 2e9


def _hardware(moment: int) -> Iterator[Sample]:
    """dcgm-exporter and node-exporter on the first node, where a third GPU has no pod."""
    for gpu in ("0", "1", "2"):
        pod = {} if gpu == "2" else {"exported_namespace": "ml", "exported_pod": f"demo-worker-{gpu}"}
        labels = {"Hostname": "node-a", "gpu": gpu, "pod": "dcgm-exporter-x", "namespace": "gpu-operator", **pod}
        busy = 0.0 if gpu == "2" else 0.95
        values = {
            "DEV_GPU_UTIL": busy * 100, "PROF_GR_ENGINE_ACTIVE": busy, "PROF_SM_ACTIVE": busy * 0.85,
            "PROF_PIPE_TENSOR_ACTIVE": busy * 0.45, "PROF_DRAM_ACTIVE": busy * 0.5, "DEV_FB_USED": 70_000 * busy,
            "DEV_FB_FREE": 10_000, "DEV_POWER_USAGE": 80 + 500 * busy, "DEV_TOTAL_ENERGY_CONSUMPTION": moment * 5e5,
            "DEV_GPU_TEMP": 35 + 30 * busy, "DEV_MEMORY_TEMP": 70, "DEV_SM_CLOCK": 1700, "DEV_XID_ERRORS": 0,
            "DEV_ECC_SBE_VOL_TOTAL": 2, "DEV_ECC_DBE_VOL_TOTAL": 0, "DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
            "DEV_ROW_REMAP_FAILURE": 0, "DEV_PCIE_REPLAY_COUNTER": moment // 3000, "PROF_PCIE_TX_BYTES": 3e9 * busy,
            "PROF_PCIE_RX_BYTES": 2e9 * busy, "PROF_NVLINK_TX_BYTES": 9e10 * busy, "PROF_NVLINK_RX_BYTES": 9e10 * busy,
        }  # fmt: skip
        for name, value in values.items():
            yield f"DCGM_FI_{name}", labels, value
        yield "DCGM_EXP_CLOCK_EVENTS_COUNT", {**labels, "clock_event": "sw_power_cap"}, 10 * busy
        fault = gpu == "1" and _FAULT <= moment < _FAULT + 300
        if fault:
            yield "DCGM_EXP_XID_ERRORS_COUNT", {**labels, "xid": "79"}, 1
    node = {"instance": "10.0.0.1:9100"}
    yield "node_uname_info", {**node, "nodename": "node-a"}, 1
    yield "node_cpu_seconds_total", {**node, "cpu": "0", "mode": "idle"}, (moment - SINCE) * 0.6
    yield "node_memory_MemTotal_bytes", node, 1e12
    yield "node_memory_MemAvailable_bytes", node, 7e11
    yield "node_network_receive_bytes_total", {**node, "device": "eth0"}, (moment - SINCE) * 1e9
    yield "node_network_transmit_bytes_total", {**node, "device": "eth0"}, (moment - SINCE) * 1e9
    yield "node_filesystem_avail_bytes", {**node, "mountpoint": "/", "fstype": "ext4"}, 5e11
