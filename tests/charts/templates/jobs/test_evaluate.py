"""templates/jobs/evaluate.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, container


def test_default_is_none(chart: Chart) -> None:
    assert "CronJob/demo-evaluate" not in chart.kinds()


def test_switched(chart: Chart) -> None:
    evaluate = {
        "enabled": True,
        "schedule": "0 * * * *",
        "checkpoint": "best",
        "resources": {"limits": {"nvidia.com/gpu": 1}},
    }
    spec = chart.one("CronJob", "demo-evaluate", {"jobs": {"evaluate": evaluate}})["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"], spec["suspend"]) == ("0 * * * *", "Forbid", False)
    trainer = container(spec["jobTemplate"]["spec"]["template"])
    assert trainer["command"][-4:] == ["--set", "task=evaluate", "--set", "resume=best"]
    assert trainer["resources"]["limits"] == {"nvidia.com/gpu": 1}
    suspended = {"jobs": {"evaluate": {"enabled": True}}, "lifecycle": {"suspend": True}}
    assert chart.one("CronJob", "demo-evaluate", suspended)["spec"]["suspend"] is True


def test_refused(chart: Chart) -> None:
    assert "/jobs/evaluate/schedule" in chart.refusal({"jobs": {"evaluate": {"schedule": "hourly"}}})
