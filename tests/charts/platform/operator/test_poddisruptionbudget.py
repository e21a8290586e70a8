"""templates/operator/poddisruptionbudget.yaml of the platform."""

from __future__ import annotations

from tests.charts.rendering import Chart


def test_default_lets_one_go(platform: Chart) -> None:
    spec = platform.one("PodDisruptionBudget", "demo-operator")["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["selector"] == platform.one("Deployment", "demo-operator")["spec"]["selector"]


def test_switched_off(platform: Chart) -> None:
    values = {"operator": {"podDisruptionBudget": {"enabled": False}}}
    assert "PodDisruptionBudget/demo-operator" not in platform.kinds(values)


def test_refused(platform: Chart) -> None:
    values = {"operator": {"podDisruptionBudget": {"minAvailable": 2}}}
    assert "minAvailable" in platform.refusal(values)
