"""A run as the Prometheus of its cluster sees it: found by its ServiceMonitor, one series per metric, whatever happens.

The platform's rules are evaluated meanwhile, on series with the labels that a cluster gives them.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import bringup
from tests.cluster.client import Cluster, Namespace
from tests.cluster.conftest import KUBECONFIG, MakeRun
from tests.cluster.machines import Machine
from tests.cluster.monitoring import prometheus, prometheus_operator
from tests.cluster.runs import CHART, LABEL, SAVED, WAIT_SECONDS, Run
from tests.integration.metrics.scraping import Labels, Prometheus
from tests.integration.servers import go_tool
from trainer.metrics.goodput import Bucket

MORE_STEPS = 20
PLATFORM = CHART.parent / "gpt-platform"
# What Prometheus adds; all else is the exporter's.
OF_THE_TARGET = {"namespace", "pod", "instance", "job", "service", "endpoint", "container"}
OURS = '{run="demo", __name__=~"trainer_.*|gptrun_.*"}'
OF_THE_RUNS_LIFE = ("trainer_goodput_seconds_total", "trainer_gpu_seconds_total")
TOTALS = ("trainer_steps_total", *OF_THE_RUNS_LIFE)


@pytest.fixture
def control(cluster: Cluster) -> Iterator[Machine]:
    """The machine on which the Prometheus operator runs."""
    if os.environ.get(KUBECONFIG):
        pytest.skip(f"brings a Prometheus operator, which the cluster of {KUBECONFIG} may have, and removes its kinds")
    go_tool("prometheus"), go_tool("prometheus-operator")
    machine = bringup.machines()["control"]
    with prometheus_operator(machine):
        yield machine


def test_one_series_per_metric_through_a_loss_scales_and_a_restart(
    control: Machine, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(run=SAVED, monitoring={"serviceMonitor": {"enabled": True, "interval": "1s"}})
    install_rules(run.namespace)
    with prometheus(control, run.namespace, tmp_path, rules="platform", monitor="demo") as server:
        began = time.time()
        run.wait_for_attempt(1, size=2)
        first = scraped(server, run, "begin")

        run.namespace.kubectl("delete", "pod", "demo-worker-0", "--force", "--grace-period=0")
        run.wait_for_attempt(2, size=2)
        assert scraped(server, run, "worker-0 lost") == first

        run.scale(1)
        run.wait_for_world(1)
        assert scraped(server, run, "scaled down") == first
        run.scale(3)
        run.wait_for_world(3)
        assert scraped(server, run, "scaled up") == first

        run.namespace.kubectl("delete", "pod", "--selector", f"{LABEL}=coordinator")
        server.wait_until(lambda: {labels["pod"] for labels, _ in server.query("up")} - {first}, "no new target")
        second = scraped(server, run, "coordinator replaced")
        assert second != first
        run.wait_for_step(run.told("step") + MORE_STEPS)
        assert scraped(server, run, "later") == second

        assert_nothing_fell(server, began)
        assert_rules_work(server, run.namespace)


def install_rules(namespace: Namespace) -> None:
    """Those of the platform's chart, as a user gets them, and nothing else of it."""
    off = {name: {"enabled": False} for name in ("dashboards", "crds", "operator", "guards")}
    values = {"rules": {"enabled": True}, **off}
    namespace.helm("install", "platform", str(PLATFORM), values=values)


def scraped(server: Prometheus, run: Run, moment: str) -> str:
    """Wait until one coordinator is scraped and steps are taken; its pod, with one series per metric and labels."""

    def answer(beyond: float) -> list[tuple[Labels, float]] | None:
        found = server.query(OURS)
        names = {labels["__name__"] for labels, _ in found}
        pods = {labels["pod"] for labels, _ in found}
        return found if names.issuperset(TOTALS) and len(pods) == 1 and counted(found) > beyond else None

    before = run.namespace.wait(f"scrape ({moment})", WAIT_SECONDS, lambda: answer(0))
    found = run.namespace.wait(f"step ({moment})", WAIT_SECONDS, lambda: answer(counted(before)))
    names = Counter(labels["__name__"] for labels, _ in found)
    assert [names[name] for name in TOTALS] == [1, len(Bucket), len(Bucket)]
    kept = Counter(frozenset((key, labels[key]) for key in labels.keys() - OF_THE_TARGET) for labels, _ in found)
    assert [dict(labels) for labels, count in kept.items() if count > 1] == []
    pod = found[0][0]["pod"]
    # Two monitors of one pod would give its series the same labels, and so be seen only here.
    assert [target["labels"]["pod"] for target in server.targets()].count(pod) == 1
    print(f"{moment}: {pod}, {len(found)} series, {counted(before):.0f} and then {counted(found):.0f} steps")
    return pod


def counted(found: list[tuple[Labels, float]]) -> float:
    """Steps that the coordinator says were taken while it was there."""
    return max(value for labels, value in found if labels["__name__"] == TOTALS[0])


def assert_nothing_fell(server: Prometheus, began: float) -> None:
    """Counters of the run's life went on from one coordinator to the next, as raw samples and as dashboards ask."""
    for name in OF_THE_RUNS_LIFE:
        asked = server.query_range(f'max by (bucket) ({name}{{run="demo"}})', start=began, end=time.time())
        for labels, points in asked:
            values = [value for _, value in points]
            assert values == sorted(values), (name, labels)
        for labels, values in server.samples(f'{name}{{run="demo"}}'):
            assert all(before <= after for before, after in itertools.pairwise(values)), (name, labels)
        assert len(asked) == len(Bucket)
        print(f"{name}: {sum(len(values) for _, values in server.samples(name))} samples, none below the one before")
    for labels, values in server.samples("up"):
        print(f"{labels['pod']}: scraped {len(values)} times, {values.count(0.0)} of them in vain")


def assert_rules_work(server: Prometheus, namespace: Namespace) -> None:
    """The operator passed on every rule of the chart, and Prometheus can evaluate all of them."""
    applied = namespace.get("prometheusrule", "platform")
    assert applied is not None
    expected = [rule.get("alert") or rule["record"] for group in applied["spec"]["groups"] for rule in group["rules"]]
    loaded = [rule for group in server.rules() for rule in group["rules"]]
    assert sorted(rule["name"] for rule in loaded) == sorted(expected)
    assert [(rule["name"], rule.get("lastError")) for rule in loaded if rule["health"] != "ok"] == []
    print(f"rules: {len(loaded)}, all evaluated; {server.alerts()}")
