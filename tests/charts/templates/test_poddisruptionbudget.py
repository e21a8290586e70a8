"""templates/poddisruptionbudget.yaml."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, find, worker


def test_default_one_worker_at_a_time(chart: Chart) -> None:
    objects = chart.render()
    budget = find(objects, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    selector = budget["selector"]["matchLabels"].items()
    assert selector <= worker(find(objects, "PyTorchJob"))["metadata"]["labels"].items()
    coordinator = find(objects, "Deployment", "demo-coordinator")["spec"]["template"]["metadata"]["labels"]
    assert not selector <= coordinator.items()


@pytest.mark.parametrize("workers", [{"min": 2, "replicas": 4}, {"min": 3, "replicas": 3}, {"min": 3, "replicas": 4}])
def test_switched_to_ray_never_keeps_the_last_worker_that_a_scale_down_left(
    chart: Chart, workers: dict[str, int]
) -> None:
    """What is rendered stays, while the run may be scaled to anything from `workers.min` on."""
    objects = chart.render({"backend": "rayjob", "workers": workers})
    (group,) = find(objects, "RayJob")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    budget = find(objects, "PodDisruptionBudget")["spec"]
    assert budget["minAvailable"] == group["minReplicas"] - 1
    assert "maxUnavailable" not in budget


@pytest.mark.parametrize("workers", [{}, {"min": 1, "replicas": 4}])
def test_switched_to_ray_with_one_worker_there_is_none_that_would_keep_none(
    chart: Chart, workers: dict[str, int]
) -> None:
    objects = chart.render({"backend": "rayjob", "workers": workers})
    assert not any(node["kind"] == "PodDisruptionBudget" for node in objects)


def test_refused_no_workers(chart: Chart) -> None:
    assert "/workers/min" in chart.refusal({"backend": "rayjob", "workers": {"min": 0}})
