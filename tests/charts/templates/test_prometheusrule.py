"""templates/prometheusrule.yaml; what the rules do is tested in tests/rules."""

from __future__ import annotations

from charts.generator.__main__ import SHARED
from charts.generator.values import CHART, PLATFORM
from tests.charts.rendering import Chart, Object


def enabled(**values: object) -> Object:
    return {"monitoring": {"rules": {"enabled": True, **values}}}


def test_default_is_none(chart: Chart) -> None:
    assert "PrometheusRule/demo" not in chart.kinds()


def test_switched(chart: Chart) -> None:
    made = chart.one("PrometheusRule", values=enabled(labels={"release": "prom"}))
    assert made["metadata"]["labels"]["release"] == "prom"
    (group,) = made["spec"]["groups"]
    failed = next(rule for rule in group["rules"] if rule.get("alert") == "GptRunFailed")
    phase = 'trainer_phase{namespace="default", run="demo", phase="failed"}'
    assert failed["expr"] == f"max by (namespace, run) ({phase}) == 1"
    assert failed["for"] == "1m"


def test_switched_for_a_run_of_another_name(chart: Chart) -> None:
    made = chart.one("PrometheusRule", values=enabled() | {"run": {"name": "other"}})
    assert all('run="other"' in rule["expr"] for rule in made["spec"]["groups"][0]["rules"])


def test_switched_scale(chart: Chart) -> None:
    made = chart.one("PrometheusRule", values=enabled(durationScale=0.01))
    stalled = next(rule for rule in made["spec"]["groups"][0]["rules"] if rule.get("alert") == "GptRunStalled")
    assert stalled["for"] == "3000ms"
    assert "> 3\n" in stalled["expr"]
    assert "> 15\n" in stalled["expr"]


def test_refused(chart: Chart) -> None:
    assert "durationScale" in chart.refusal(enabled(durationScale=0))


def test_both_charts_have_the_same_rules() -> None:
    for name in SHARED:
        assert (CHART / name).read_text() == (PLATFORM / name).read_text(), name
