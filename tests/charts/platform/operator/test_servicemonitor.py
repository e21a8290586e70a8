"""templates/operator/servicemonitor.yaml of the platform."""

from __future__ import annotations

from tests.charts.rendering import Chart, Object


def values(**more: object) -> Object:
    return {"operator": {"serviceMonitor": {"enabled": True, **more}}}


def test_default_is_none(platform: Chart) -> None:
    assert "ServiceMonitor/demo-operator" not in platform.kinds()


def test_switched(platform: Chart) -> None:
    made = platform.one("ServiceMonitor", "demo-operator", values(labels={"release": "prom"}, interval="1m"))
    assert made["metadata"]["labels"]["release"] == "prom"
    service = platform.one("Service", "demo-operator")
    assert made["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert made["spec"]["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "1m"}]


def test_switched_off_with_the_operator(platform: Chart) -> None:
    both = {"operator": {"enabled": False, "serviceMonitor": {"enabled": True}}}
    assert "ServiceMonitor/demo-operator" not in platform.kinds(both)


def test_refused(platform: Chart) -> None:
    assert "/operator/serviceMonitor/interval" in platform.refusal(values(interval="often"))
