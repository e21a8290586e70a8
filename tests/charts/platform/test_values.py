"""values.yaml of the platform: every value is used, checked and valid; every object meets Kubernetes' schemas."""

from __future__ import annotations

from typing import Any

import pytest

from charts.generator.manifests import KUBERNETES
from charts.generator.values import PLATFORM, Entry, read_values
from tests.charts.platform.kueue import queues
from tests.charts.rendering import Chart, Object, merged, nested
from tests.charts.standards import LABELS, problems
from tests.charts.test_values import leaves, lookup

EVERYTHING: Object = {
    **{name: {"enabled": True} for name in ("serviceMonitor", "dcgmCounters", "rules", "priorityClasses")},
    **queues.values(),
    "operator": {"serviceMonitor": {"enabled": True}},
    "quotas": {"team-a": {"pods": 10}},
}
OTHERS: Object = {
    "serviceMonitor.interval": "5s",
    "operator.serviceMonitor.interval": "5s",
    "rules.durationScale": 2,
    "operator.image.digest": "sha256:" + "b" * 64,
    "operator.image.pullPolicy": "Never",
    "operator.image.pullSecrets": [{"name": "other"}],
    "operator.logFormat": "text",
    "operator.resources": {"requests": {"cpu": 77}},
    "operator.tolerations": [{"operator": "Exists"}],
    "operator.networkPolicy.metricsFrom": [],
    "operator.networkPolicy.apiServer": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
    "operator.networkPolicy.apiServerPorts": [8443],
    "guards.action": "Warn",
    "guards.namespaceSelector": {"matchLabels": {"team": "ml"}},
    "kueue.namespaceSelector": {"matchLabels": {"team": "ml"}},
    "kueue.flavors": [queues.H100],
    "kueue.preemption.withinClusterQueue": "Never",
    "kueue.preemption.reclaimWithinCohort": "Never",
    "kueue.localQueues": {"team-b": "other"},
    "quotas": {"team-b": {"pods": 1}},
    "priorityClasses.classes": [{"name": "other", "value": 1, "description": "Other."}],
}
# What must change with a value for the values to stay free of contradictions.
ACCOUNT = "operator.serviceAccount"
WITH: Object = {
    f"{ACCOUNT}.create": nested(f"{ACCOUNT}.name", "other"),
    f"{ACCOUNT}.name": nested(f"{ACCOUNT}.create", False),
}
LEAVES = dict(leaves(read_values(PLATFORM / "values.yaml")))
# Objects of the cluster belong to no run.
PLATFORM_LABELS = tuple(label for label in LABELS if not label.startswith("gptrun.io/"))


def other_value(path: str, entry: Entry) -> Any:
    if path in OTHERS:
        return OTHERS[path]
    if isinstance(entry.default, bool):
        return not (entry.default or lookup(EVERYTHING, path))
    if isinstance(entry.default, int):
        return entry.default + 1
    if isinstance(entry.default, list):
        return ["other"]
    return {"example.com/other": "other"} if isinstance(entry.default, dict) else "other"


@pytest.mark.parametrize("path", LEAVES)
def test_every_value_is_used(platform: Chart, path: str) -> None:
    change = merged(nested(path, other_value(path, LEAVES[path])), WITH.get(path, {}))
    before, after = platform.template(EVERYTHING), platform.template(merged(EVERYTHING, change))
    assert (before.returncode, after.returncode) == (0, 0), before.stderr + after.stderr
    assert before.stdout != after.stdout


@pytest.mark.parametrize(
    "values",
    [{}, EVERYTHING, merged(EVERYTHING, {"operator": {"namespace": "team-a"}})],
    ids=["default", "everything", "one-namespace"],
)
def test_objects_are_valid_and_labelled(platform: Chart, values: Object) -> None:
    assert [problem for node in platform.render(values) for problem in problems(node, PLATFORM_LABELS)] == []


def test_it_lints(platform: Chart) -> None:
    linted = platform.run("lint", "--strict", str(platform.path), "--kube-version", KUBERNETES)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_unknown_values_are_refused_by_name(platform: Chart) -> None:
    assert "additional properties 'dashboard'" in platform.refusal({"dashboard": {}})
