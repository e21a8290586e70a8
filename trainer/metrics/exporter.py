"""The text of /metrics: what rank 0 and the coordinator say of a run, as Prometheus's series.

Filled by `trainer.elastic.status`, under its lock. Rank 0 tells totals of its attempt, so that no lost message matters;
counters here add up what is new. The number of series depends on neither ranks nor attempts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from trainer.metrics.catalogue import METRICS, STEP_SECONDS
from trainer.metrics.goodput import Bucket

# What rank 0 tells -> the gauge that shows it.
_GAUGES = {
    "loss": "trainer_loss",
    "validation_loss": "trainer_validation_loss",
    "lr": "trainer_learning_rate",
    "grad_norm": "trainer_grad_norm",
    "slowest_rank": "trainer_slowest_rank",
    "checkpoint_bytes": "trainer_checkpoint_bytes",
    "checkpoint_duration_seconds": "trainer_checkpoint_duration_seconds",
    "checkpoint_interval_seconds": "trainer_checkpoint_interval_seconds",
    "tokens": "trainer_run_tokens",
    "step": "trainer_run_steps",
    "steps_total": "trainer_run_steps_planned",
}
_GAUGES_BY_LABEL = {
    "shares": "trainer_step_share_ratio",
    "rank_step_seconds": "trainer_rank_step_seconds",
    "memory": "trainer_memory_bytes",
}
_TIMES = {
    "last_progress_time": "trainer_last_step_timestamp_seconds",
    "eta_time": "trainer_eta_timestamp_seconds",
}
_TOTALS = {
    "tokens": "trainer_tokens_total",
    "steps": "trainer_steps_total",
    "flops": "trainer_flops_total",
    "nonfinite_steps": "trainer_nonfinite_steps_total",
    "checkpoint_stall_seconds": "trainer_checkpoint_stall_seconds_total",
    "checkpoint_failures": "trainer_checkpoint_failures_total",
}
_ACCOUNTS = {
    "settled_seconds": "trainer_goodput_seconds_total",
    "settled_gpu_seconds": "trainer_gpu_seconds_total",
}
_OF_A_GPU = {
    "utilization_ratio": "trainer_gpu_utilization_ratio",
    "memory_used_bytes": "trainer_gpu_memory_used_bytes",
    "power_watts": "trainer_gpu_power_watts",
    "temperature_celsius": "trainer_gpu_temperature_celsius",
}
_OF_A_HOST = {
    "cpu_ratio": "trainer_node_cpu_ratio",
    "memory_used_bytes": "trainer_node_memory_used_bytes",
    "disk_free_bytes": "trainer_node_disk_free_bytes",
    "network_bytes_per_second": "trainer_node_network_bytes_per_second",
}
_COSTS = {
    "spent": "trainer_run_cost",
    "remaining": "trainer_run_cost_remaining",
    "lost": "trainer_run_cost_lost",
}
_STEPPING = ("training", "evaluating", "saving")
Labels = tuple[str, ...]


class RunExporter(Collector):
    """The metrics of one run; not thread-safe."""

    def __init__(self, *, phases: Iterable[str], reasons: Iterable[str]) -> None:
        """phases, reasons: all values of these labels, which are there from 0 on."""
        self._phases = tuple(phases)
        self._run = ""
        self._values: dict[str, dict[Labels, float]] = {name: {} for name in METRICS}
        self._formed_a_round = False
        self._attempt = 0
        """Number of the attempt that totals came of last."""
        self._told: dict[str, float] = {}
        """Totals of `_attempt` that are counted already."""
        self._bounds = (*(f"{bound:g}" for bound in STEP_SECONDS), "+Inf")
        self._durations = dict.fromkeys(self._bounds, 0.0)
        self._durations_sum = 0.0
        self._speed: dict[str, float | None] = {}
        self._reported_recovery = 0.0
        self._idle_seconds = 0.0
        self._looked_at: float | None = None
        for name in _TOTALS.values():
            self._values[name][()] = 0.0
        for reason in reasons:
            self._values["trainer_restarts_total"][(reason,)] = 0.0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    @property
    def idle_seconds(self) -> float:
        """Time without workers that is in no report of rank 0's yet."""
        return self._idle_seconds

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return bytes(generate_latest(self._registry))

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client."""
        for name, metric in METRICS.items():
            labels = ["run", *metric.labels]
            if metric.kind == "histogram":
                histogram = HistogramMetricFamily(name, metric.help, labels=labels)
                histogram.add_metric([self._run], list(_cumulated(self._durations)), self._durations_sum)
                yield histogram
                continue
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            made: CounterMetricFamily | GaugeMetricFamily = family(name, metric.help, labels=labels)
            for values, value in self._values[name].items():
                made.add_metric([self._run, *values], value)
            yield made

    def round_formed(self, reason: str | None) -> None:
        """A world of workers begins; reason: what ended the one before, None for the first."""
        self._formed_a_round = True
        self._count("gptrun_coordinator_rounds_total", 1, reason or "")
        if reason is not None:
            self._count("trainer_restarts_total", 1, reason)

    def look_at(self, run: str, *, phase: str, world_size: int, members: int, idle: bool, now: float) -> None:
        """What the coordinator sees. idle: the run is not over, and no worker is there."""
        self._run = run
        self._set("trainer_world_size", world_size)
        self._set("gptrun_coordinator_members", members)
        self._values["trainer_phase"] = {(name,): float(name == phase) for name in self._phases}
        if idle and self._looked_at is not None and self._attempt:
            self._idle_seconds += max(now - self._looked_at, 0.0)
            recovery = self._reported_recovery + self._idle_seconds
            self._raise_to("trainer_goodput_seconds_total", Bucket.INFRA_RECOVERY, recovery)
            self._set("trainer_run_goodput_seconds", recovery, Bucket.INFRA_RECOVERY)
            self._fall_with_recovery()
        if not world_size:  # their workers are gone, and others may use them
            self._take_places(_OF_A_GPU | _OF_A_HOST, {})
        self._looked_at = now if idle else None
        # Between two worlds nobody trains, whatever was measured before.
        for key, name in (("tokens_per_second", "trainer_tokens_per_second"), ("mfu_ratio", "trainer_mfu_ratio")):
            value = self._speed.get(key)
            self._set(name, value if value is None or phase in _STEPPING else 0.0)

    def _fall_with_recovery(self) -> None:
        """Training's share of a life that goes on without it."""
        seconds = self._values["trainer_run_goodput_seconds"]
        training, total = seconds.get((Bucket.TRAINING,), 0.0), sum(seconds.values())
        if training:
            self._set("trainer_run_goodput_ratio", training / total)

    def report(self, fields: Mapping[str, Any]) -> None:
        """What rank 0 tells; keys that are none of ours are passed over."""
        for key, name in _GAUGES.items():
            if key in fields:
                self._set(name, fields[key])
        for key, name in _TIMES.items():
            if key in fields:
                self._set(name, _timestamp(fields[key]))
        for key, name in _GAUGES_BY_LABEL.items():
            if key in fields:
                self._values[name] = {(label,): value for label, value in fields[key].items() if value is not None}
        self._speed |= {key: fields[key] for key in ("tokens_per_second", "mfu_ratio") if key in fields}
        if "attempt" in fields:
            self._set("trainer_attempt", _number(fields["attempt"]))
        if fields.get("last_checkpoint"):
            self._set("trainer_checkpoint_last_timestamp_seconds", _timestamp(fields["last_checkpoint"]["time"]))
        if "totals" in fields:
            self._take_totals(fields["totals"])
        # A worker's pipe takes lines of a limited size: either may come without the other.
        for key, name in _ACCOUNTS.items():
            for bucket in Bucket if key in fields else ():
                self._raise_to(name, bucket, fields[key].get(bucket, 0.0))
        if "settled_seconds" in fields:
            self._reported_recovery = fields["settled_seconds"].get(Bucket.INFRA_RECOVERY, 0.0)
            self._idle_seconds = 0.0
        if "goodput_seconds" in fields:
            seconds = fields["goodput_seconds"]
            self._values["trainer_run_goodput_seconds"] = {(bucket,): seconds.get(bucket, 0.0) for bucket in Bucket}
        if "goodput_ratio" in fields:
            self._set("trainer_run_goodput_ratio", fields["goodput_ratio"])
        if fields.get("cost"):
            currency = fields["cost"]["currency"]
            for key, name in _COSTS.items():
                self._set(name, fields["cost"].get(key), currency)
        if "info" in fields:
            info = fields["info"]
            self._values["trainer_run_info"] = {
                tuple(str(info.get(label) or "") for label in METRICS["trainer_run_info"].labels): 1.0
            }
        if "gpus" in fields:
            self._take_places(_OF_A_GPU, {(gpu["node"], str(gpu["gpu"])): gpu for gpu in fields["gpus"]})
        if "hosts" in fields:
            self._take_places(_OF_A_HOST, {(host["host"],): host for host in fields["hosts"]})

    def _take_totals(self, totals: Mapping[str, Any]) -> None:
        """totals: of the attempt named in it. A process that came in its middle begins at 0 with what follows."""
        # A number: as text a10000 would come before a9999.
        attempt = _number(totals["attempt"])
        if attempt < self._attempt:
            return  # said before the newer attempt began, and came late
        counts = dict(zip(self._bounds, totals["step_durations"], strict=True))
        told = {key: float(totals[key]) for key in (*_TOTALS, "step_durations_sum")} | counts
        if attempt != self._attempt:
            adopted = not self._attempt and not self._formed_a_round
            self._attempt = attempt
            self._told = told if adopted else {}
        new = {key: max(value - self._told.get(key, 0.0), 0.0) for key, value in told.items()}
        self._told = told
        for key, name in _TOTALS.items():
            self._count(name, new[key])
        for bound in self._bounds:
            self._durations[bound] += new[bound]
        self._durations_sum += new["step_durations_sum"]

    def _take_places(self, names: Mapping[str, str], places: Mapping[Labels, Mapping[str, Any]]) -> None:
        """Figures of GPUs or hosts, by their labels; those of before are gone."""
        for key, name in names.items():
            self._values[name] = {labels: place[key] for labels, place in places.items() if place.get(key) is not None}

    def _set(self, name: str, value: float | None, *labels: str) -> None:
        if value is None:
            self._values[name].pop(labels, None)
        else:
            self._values[name][labels] = value

    def _count(self, name: str, more: float, *labels: str) -> None:
        self._values[name][labels] = self._values[name].get(labels, 0.0) + more

    def _raise_to(self, name: str, bucket: str, value: float) -> None:
        """A counter never falls, though an attempt may say less than the one before had said."""
        self._values[name][(bucket,)] = max(self._values[name].get((bucket,), 0.0), value)


def _cumulated(counts: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    total = 0.0
    for bound, count in counts.items():
        total += count
        yield bound, total


def _number(attempt: str) -> int:
    """3 of a0003."""
    return int(attempt.removeprefix("a"))


def _timestamp(time: str | None) -> float | None:
    return datetime.fromisoformat(time).timestamp() if time else None
