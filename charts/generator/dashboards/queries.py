"""PromQL that several dashboards share: selectors, newest values, sums over restarts, GPUs and nodes.

Series of a run carry the pod of its coordinator, which changes when that restarts, so every query aggregates pod and
instance away: gauges by `max`, counters by `sum` over their increase. Variables of the dashboards are $namespace, $run
and $node; everything here parses on Prometheus 2.42.
"""

from __future__ import annotations

from collections.abc import Iterable

RUN = 'namespace=~"$namespace", run="$run"'
"""The run of a dashboard with one run."""
RUNS = 'namespace=~"$namespace", run=~"$run"'
"""The runs of a dashboard with several."""

# Pods of a PyTorchJob, and of a RayJob's workers. dcgm-exporter names the pod that has a GPU `pod`, or, where
# Prometheus keeps that label for the exporter's own, as `exported_pod`.
_PODS = "($run)(-worker-[0-9]+|-[a-z0-9]+-.*worker-[a-z0-9]+)"


def newest(metric: str, selector: str = RUN, *labels: str) -> str:
    """The value now of a gauge, per run and `labels`."""
    return f"max by ({_by(labels)}) ({metric}{{{selector}}})"


def grown(metric: str, window: str, selector: str = RUN, *labels: str) -> str:
    """By how much a counter grew within the window, per run and `labels`."""
    return f"sum by ({_by(labels)}) (increase({metric}{{{selector}}}[{window}]))"


def events(metric: str, selector: str = RUN, *labels: str) -> str:
    """How many events a counter has seen around each point: whole ones, though Prometheus extrapolates."""
    return f"round({grown(metric, '$__rate_interval', selector, *labels)})"


def age(metric: str, selector: str = RUN) -> str:
    """Seconds since a timestamp, of runs that have not ended."""
    ended = f'trainer_phase{{{selector}, phase=~"finished|failed"}} == 1'
    return f"time() - {newest(metric, selector)} unless on (namespace, run) ({ended})"


def speed(metric: str, selector: str = RUN, *labels: str) -> str:
    """Growth of a counter per second, per run and `labels`."""
    return f"sum by ({_by(labels)}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def purpose(metric: str, selector: str = RUN, *labels: str) -> str:
    """Growth per second of a gauge of seconds, where it does not fall."""
    return f"clamp_min(max by ({_by(labels)}) (deriv({metric}{{{selector}}}[$__rate_interval])), 0)"


def life(metric: str, selector: str = RUNS, *labels: str, window: str = "1h") -> str:
    """Growth per second of a total that a run carries through its whole life, over a window.

    A new coordinator goes on from the old one's value. Taken before the rate, the maximum makes one series of both, and
    what happened between them counts.
    """
    return f"rate({newest(metric, selector, *labels)}[{window}:])"


def changed(metric: str, selector: str) -> str:
    """1 where a gauge differs from what it was one interval ago: an annotation."""
    before = f"max by ({_by(())}) ({metric}{{{selector}}} offset $__interval)"
    return f"{newest(metric, selector)} != bool {before}"


def per_gpu(dcgm: str, factor: str, fill_in: str | None = None) -> str:
    """A value of each GPU of the chosen nodes: dcgm-exporter's, on nodes without it the trainer's own.

    The fill-in counts the GPUs that its pod sees from 0, dcgm-exporter those of the node: only whole nodes can be
    taken from the one or the other.
    """
    found = f"max by (node, gpu) ({on_node(dcgm)}){factor}"
    if fill_in is None:
        return found
    return f'{found} or on (node) max by (node, gpu) ({fill_in}{{{RUNS}, node=~"$node"}})'


def on_node(dcgm: str, window: str = "") -> str:
    """A metric of dcgm-exporter for the chosen nodes, or its growth within a window, with their names as `node`."""
    found = f'{dcgm}{{Hostname=~"$node"}}'
    return f'label_replace({f"increase({found}[{window}])" if window else found}, "node", "$1", "Hostname", "(.+)")'


def per_node(exporter: str, fill_in: str) -> str:
    """A value of each chosen node: node-exporter's (an expression by `instance`), else the trainer's own."""
    named = f"({exporter}) * on (instance) group_left (nodename) max by (instance, nodename) (node_uname_info)"
    renamed = f'max by (node) (label_replace({named}, "node", "$1", "nodename", "(.+)"))'
    # Node-exporter knows no runs and no list of the chosen: the names decide.
    names = 'label_replace(node_uname_info{nodename=~"$node"}, "node", "$1", "nodename", "(.+)")'
    chosen = f"{renamed} and on (node) {names}"
    return f'({chosen}) or on (node) max by (node) ({fill_in}{{{RUNS}, node=~"$node"}})'


def of_run(dcgm: str, fill_in: str) -> str:
    """Values of the GPUs of one run: dcgm-exporter's by the pods' names, else the trainer's own."""
    pods = f'{dcgm}{{exported_pod=~"{_PODS}"}} / 100 or {dcgm}{{exported_pod="", pod=~"{_PODS}"}} / 100'
    return f"({pods}) or on () {fill_in}{{{RUN}}}"


def _by(labels: Iterable[str]) -> str:
    return ", ".join(("namespace", "run", *labels))
