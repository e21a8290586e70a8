"""templates/trainingrun.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart


def test_default_is_none(chart: Chart) -> None:
    assert "TrainingRun/demo" not in chart.kinds()


def test_switched(chart: Chart) -> None:
    values = {
        "policy": {"enabled": True, "capacity": {"enabled": True}, "restart": {"windowSeconds": 10_000_000}},
        "workers": {"min": 2, "max": 6},
    }
    spec = chart.one("TrainingRun", values=values)["spec"]
    assert spec == {
        "jobRef": {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": "demo"},
        "elastic": {"min": 2, "max": 6, "capacity": {"enabled": True, "pendingSeconds": 900, "growSeconds": 60}},
        "restart": {"failures": 3, "windowSeconds": 10_000_000},
        "hang": {"seconds": 120},
        "nodeLoss": {"seconds": 60},
    }
    of_ray = chart.one("TrainingRun", values=values | {"backend": "rayjob"})["spec"]
    assert of_ray["jobRef"] == {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "demo"}


def test_refused_two_that_decide_how_much_room_there_is(chart: Chart) -> None:
    values = {"policy": {"enabled": True, "capacity": {"enabled": True}}, "scheduling": {"queueName": "team"}}
    assert "policy.capacity.enabled: Kueue" in chart.refusal(values)
