"""templates/prometheusrule.yaml of the platform; what the rules do is tested in tests/rules."""

from __future__ import annotations

from tests.charts.rendering import Chart, Object


def rules(platform: Chart, **values: object) -> Object:
    return platform.one("PrometheusRule", "demo", {"rules": {"enabled": True, **values}})


def test_default_is_none(platform: Chart) -> None:
    assert "PrometheusRule/demo" not in platform.kinds()


def test_switched_is_about_all_runs(platform: Chart) -> None:
    made = rules(platform, labels={"release": "prom"})
    assert made["metadata"]["labels"]["release"] == "prom"
    groups = {group["name"]: group["rules"] for group in made["spec"]["groups"]}
    failed = next(rule for group in groups.values() for rule in group if rule.get("alert") == "GptRunFailed")
    assert failed["expr"] == 'max by (namespace, run) (trainer_phase{run!="", phase="failed"}) == 1'
    assert len(groups) >= 3


def test_switched_scale(platform: Chart) -> None:
    made = rules(platform, durationScale=0.01)
    stalled = next(
        rule for group in made["spec"]["groups"] for rule in group["rules"] if rule.get("alert") == "GptRunStalled"
    )
    assert stalled["for"] == "3000ms"


def test_refused(platform: Chart) -> None:
    assert "durationScale" in platform.refusal({"rules": {"durationScale": 0}})
