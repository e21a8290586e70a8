"""templates/dashboards.yaml."""

from __future__ import annotations

import json

import pytest

from tests.charts.rendering import Chart, Object, find


def switched(**values: object) -> Object:
    return {"monitoring": {"dashboards": {"enabled": True, **values}}}


def test_default_is_none(chart: Chart) -> None:
    assert not [name for name in chart.kinds() if name.endswith("-dashboard")]


def test_switched_brings_the_same_files_as_the_platform(chart: Chart, platform: Chart) -> None:
    objects, shared = chart.render(switched()), platform.render()
    for name in ("run", "fleet", "compare", "hardware"):
        node = find(objects, "ConfigMap", f"demo-{name}-dashboard")
        assert node["data"] == find(shared, "ConfigMap", f"demo-{name}-dashboard")["data"]
        assert json.loads(node["data"][f"gpt-run-{name}.json"])["uid"] == f"gpt-run-{name}"
        assert node["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert node["metadata"]["annotations"] == {"grafana_folder": "gpt-run"}


def test_switched_labels_and_folder(chart: Chart) -> None:
    values = switched(labels={"grafana_dashboard": None, "grafana": "yes"}, folder="")
    node = chart.one("ConfigMap", "demo-run-dashboard", values)
    assert (node["metadata"]["labels"]["grafana"], "annotations" in node["metadata"]) == ("yes", False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"labels": {"grafana_dashboard": None}}, "monitoring.dashboards.labels: empty"),
        ({"labels": {"grafana_dashboard": 1}}, "/monitoring/dashboards/labels/grafana_dashboard"),
    ],
)
def test_refused(chart: Chart, values: Object, words: str) -> None:
    assert words in chart.refusal(switched(**values))
