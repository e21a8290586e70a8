"""templates/jobs/export.yaml."""

from __future__ import annotations

from charts.generator.values import CHART
from tests.charts.rendering import Chart, Object, container, find

ON = {"jobs": {"export": {"enabled": True}}}


def export_job(objects: list[Object]) -> Object:
    return next(node for node in objects if node["metadata"]["name"].startswith("demo-export-"))


def test_default_is_none(chart: Chart) -> None:
    assert not any("export" in name for name in chart.kinds())


def test_switched(chart: Chart) -> None:
    objects = chart.render(ON | {"backend": "rayjob"})
    job = export_job(objects)
    command = container(job["spec"]["template"])["command"]
    assert command[:2] == ["python", "/etc/gpt-run/export.py"]
    assert dict(zip(command[2::2], command[3::2], strict=True)) == {
        "--status": "http://demo-coordinator:29480/status",
        "--run": "s3://bucket/runs/demo",
        "--checkpoint": "latest",
        "--dtype": "bf16",
    }
    script = find(objects, "ConfigMap", "demo-run")["data"]["export.py"]
    assert script == (CHART / "files" / "export.py").read_text()


def test_switched_again_is_another_job_for_a_job_cannot_be_changed(chart: Chart) -> None:
    first = export_job(chart.render(ON))
    other = export_job(chart.render({"jobs": {"export": {"enabled": True, "dtype": "fp32"}}}))
    assert first["metadata"]["name"] != other["metadata"]["name"]


def test_refused(chart: Chart) -> None:
    assert "/jobs/export/dtype" in chart.refusal({"jobs": {"export": {"dtype": "int8"}}})
