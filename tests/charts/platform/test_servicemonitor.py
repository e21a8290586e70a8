"""templates/servicemonitor.yaml of the platform."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object, find


def monitor(platform: Chart, **values: object) -> Object:
    return platform.one("ServiceMonitor", "demo-runs", {"serviceMonitor": {"enabled": True, **values}})


def test_default_is_none(platform: Chart) -> None:
    assert "ServiceMonitor/demo-runs" not in platform.kinds()


@pytest.mark.parametrize("backend", ["pytorchjob", "rayjob"])
def test_switched_finds_the_coordinator_of_every_run(platform: Chart, chart: Chart, backend: str) -> None:
    found = monitor(platform)
    assert found["spec"]["namespaceSelector"] == {"any": True}
    assert found["spec"]["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "15s", "honorLabels": True}]
    wanted = found["spec"]["selector"]["matchLabels"].items()
    services = [node for node in chart.render({"backend": backend}) if node["kind"] == "Service"]
    chosen = [node for node in services if wanted <= node["metadata"]["labels"].items()]
    assert [node["metadata"]["name"] for node in chosen] == ["demo-coordinator"]
    assert "http" in {port["name"] for port in find(chosen, "Service", "demo-coordinator")["spec"]["ports"]}


def test_switched(platform: Chart) -> None:
    found = monitor(platform, namespace="monitoring", namespaces=["a", "b"], labels={"release": "prom"}, interval="1m")
    assert (found["metadata"]["namespace"], found["metadata"]["labels"]["release"]) == ("monitoring", "prom")
    assert found["spec"]["namespaceSelector"] == {"matchNames": ["a", "b"]}
    assert found["spec"]["endpoints"][0]["interval"] == "1m"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"interval": "often"}, "/serviceMonitor/interval"),
        ({"namespaces": ["a", "a"]}, "/serviceMonitor/namespaces"),
        ({"namespaces": ["*"]}, "/serviceMonitor/namespaces/0"),
    ],
)
def test_refused(platform: Chart, values: Object, words: str) -> None:
    assert words in platform.refusal({"serviceMonitor": values})
