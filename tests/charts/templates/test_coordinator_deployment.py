"""templates/coordinator-deployment.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, container


def test_default(chart: Chart) -> None:
    deployment = chart.one("Deployment", "demo-coordinator")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    coordinator = container(deployment["spec"]["template"])
    assert coordinator["command"] == ["gpt-run", "coordinator", "--run", "demo"]
    # It needs no door to the bucket.
    assert "envFrom" not in coordinator
    assert "serviceAccountName" not in deployment["spec"]["template"]["spec"]


def test_switched(chart: Chart) -> None:
    values = {
        "run": {"name": "other"},
        "coordinator": {
            "resources": {"requests": {"cpu": 2}},
            "nodeSelector": {"pool": "cpu"},
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "high",
        },
    }
    template = chart.one("Deployment", "demo-coordinator", values)["spec"]["template"]
    assert container(template)["command"][-1] == "other"
    assert container(template)["resources"]["requests"] == {"cpu": 2, "memory": "256Mi"}
    assert template["spec"]["nodeSelector"] == {"pool": "cpu"}
    assert template["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert template["spec"]["priorityClassName"] == "high"
    assert "Deployment/demo-coordinator" not in chart.kinds({"backend": "rayjob"})


def test_refused(chart: Chart) -> None:
    assert "/coordinator" in chart.refusal({"coordinator": {"replicas": 2}})
    assert "/coordinator/tolerations/0" in chart.refusal({"coordinator": {"tolerations": [{"keys": "a"}]}})
