"""values.yaml of the platform: every value is used, checked and valid; every object meets Kubernetes' schemas."""

from __future__ import annotations

from typing import Any

import pytest

from charts.generator.manifests import KUBERNETES
from charts.generator.values import PLATFORM, Entry, read_values
from tests.charts.rendering import Chart, Object, merged, nested
from tests.charts.standards import LABELS, problems
from tests.charts.test_values import leaves

EVERYTHING: Object = {name: {"enabled": True} for name in ("serviceMonitor", "dcgmCounters", "rules")}
OTHERS: Object = {"serviceMonitor.interval": "5s", "rules.durationScale": 2}
LEAVES = dict(leaves(read_values(PLATFORM / "values.yaml")))
# Objects of the cluster belong to no run.
PLATFORM_LABELS = tuple(label for label in LABELS if not label.startswith("gptrun.io/"))


def other_value(path: str, entry: Entry) -> Any:
    if path in OTHERS:
        return OTHERS[path]
    if isinstance(entry.default, bool):
        return not (entry.default or path.split(".")[0] in EVERYTHING)
    if isinstance(entry.default, list):
        return ["other"]
    return {"example.com/other": "other"} if isinstance(entry.default, dict) else "other"


@pytest.mark.parametrize("path", LEAVES)
def test_every_value_is_used(platform: Chart, path: str) -> None:
    change = nested(path, other_value(path, LEAVES[path]))
    before, after = platform.template(EVERYTHING), platform.template(merged(EVERYTHING, change))
    assert (before.returncode, after.returncode) == (0, 0), before.stderr + after.stderr
    assert before.stdout != after.stdout


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_objects_are_valid_and_labelled(platform: Chart, values: Object) -> None:
    assert [problem for node in platform.render(values) for problem in problems(node, PLATFORM_LABELS)] == []


def test_it_lints(platform: Chart) -> None:
    linted = platform.run("lint", "--strict", str(platform.path), "--kube-version", KUBERNETES)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_unknown_values_are_refused_by_name(platform: Chart) -> None:
    assert "additional properties 'dashboard'" in platform.refusal({"dashboard": {}})
