"""templates/servicemonitor.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, find


def test_default_is_none(chart: Chart) -> None:
    assert "ServiceMonitor/demo" not in chart.kinds()


def test_switched(chart: Chart) -> None:
    values = {"monitoring": {"serviceMonitor": {"enabled": True, "labels": {"release": "prom"}, "interval": "5s"}}}
    objects = chart.render(values)
    monitor = find(objects, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prom"
    assert monitor["spec"]["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "5s", "honorLabels": True}]
    service = find(objects, "Service", "demo-coordinator")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_refused(chart: Chart) -> None:
    assert "interval" in chart.refusal({"monitoring": {"serviceMonitor": {"interval": "often"}}})
