"""templates/jobs/tensorboard.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, container, find


def test_default_is_none(chart: Chart) -> None:
    assert not any("tensorboard" in name for name in chart.kinds())


def test_switched(chart: Chart) -> None:
    values = {"jobs": {"tensorboard": {"enabled": True, "resources": {"requests": {"cpu": 2}}}}}
    objects = chart.render(values)
    template = find(objects, "Deployment", "demo-tensorboard")["spec"]["template"]
    board = container(template)
    assert board["command"][:3] == ["gpt-run", "tensorboard", "s3://bucket/runs/demo"]
    assert board["resources"]["requests"]["cpu"] == 2
    service = find(objects, "Service", "demo-tensorboard")
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    # Other jobs of the run are not behind it.
    preflight = find(objects, "Job", "demo-preflight")["spec"]["template"]["metadata"]["labels"]
    assert not service["spec"]["selector"].items() <= preflight.items()


def test_refused(chart: Chart) -> None:
    assert "/jobs/tensorboard" in chart.refusal({"jobs": {"tensorboard": {"image": "x"}}})
