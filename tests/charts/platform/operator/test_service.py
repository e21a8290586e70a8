"""templates/operator/service.yaml of the platform."""

from __future__ import annotations

from tests.charts.rendering import Chart


def test_default_finds_every_copy(platform: Chart) -> None:
    spec = platform.one("Service", "demo-operator")["spec"]
    pod = platform.one("Deployment", "demo-operator")["spec"]["template"]
    assert spec["selector"].items() <= pod["metadata"]["labels"].items()
    assert spec["ports"] == [{"name": "http", "port": 9090, "targetPort": "http"}]


def test_switched_off(platform: Chart) -> None:
    assert "Service/demo-operator" not in platform.kinds({"operator": {"enabled": False}})


def test_refused(platform: Chart) -> None:
    assert "service" in platform.refusal({"operator": {"service": {"port": 1}}})
