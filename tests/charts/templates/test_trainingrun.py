"""templates/trainingrun.yaml."""

from __future__ import annotations

from operators.api import Capacity, TrainingRunSpec
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
        "hang": {"seconds": 120, "action": "Replace"},
        "nodeLoss": {"seconds": 5},
    }
    of_ray = chart.one("TrainingRun", values=values | {"backend": "rayjob"})["spec"]
    assert of_ray["jobRef"] == {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "demo"}


def test_switched_completion(chart: Chart) -> None:
    values = {"policy": {"enabled": True, "completion": {"deleteAfterSeconds": 0}}}
    assert chart.one("TrainingRun", values=values)["spec"]["completion"] == {"deleteAfterSeconds": 0}


def test_default_is_what_the_operator_takes_for_default(chart: Chart) -> None:
    made = TrainingRunSpec.model_validate(chart.one("TrainingRun", values={"policy": {"enabled": True}})["spec"])
    bounds = made.elastic.model_copy(update={"capacity": Capacity()})
    assert made == TrainingRunSpec(job_ref=made.job_ref, elastic=bounds)


def test_refused_action(chart: Chart) -> None:
    assert "policy/hang/action" in chart.refusal({"policy": {"enabled": True, "hang": {"action": "Kill"}}})


def test_refused_two_that_decide_how_much_room_there_is(chart: Chart) -> None:
    values = {"policy": {"enabled": True, "capacity": {"enabled": True}}, "scheduling": {"queueName": "team"}}
    assert "policy.capacity.enabled: Kueue" in chart.refusal(values)
