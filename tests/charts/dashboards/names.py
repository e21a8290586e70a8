"""The series that dashboards may ask for: the trainer's own, exporters' by what they are told to make."""

from __future__ import annotations

from charts.generator.values import PLATFORM
from operators.metrics import Metrics
from trainer.metrics.catalogue import METRICS

# Metric -> its labels besides `run`; a histogram by the series that quantiles are taken of.
TRAINER: dict[str, tuple[str, ...]] = {
    **{metric.name: metric.labels for metric in METRICS.values() if metric.kind != "histogram"},
    **{f"{metric.name}_bucket": (*metric.labels, "le") for metric in METRICS.values() if metric.kind == "histogram"},
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


def operator() -> frozenset[str]:
    """The operator's own series, of its registry."""
    families = Metrics().registry.collect()
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    of_runs = {"gptrun_operator_runs"}  # made at each scrape
    return frozenset({f"{one.name}{suffix}" for one in families for suffix in suffixes.get(one.type, ("",))} | of_runs)


def all_names() -> frozenset[str]:
    """Every series that may be asked for."""
    return frozenset(TRAINER) | NODE_EXPORTER | frozenset(dcgm()) | operator()
