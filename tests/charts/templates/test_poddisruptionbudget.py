"""templates/poddisruptionbudget.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, find, worker


def test_default_one_worker_at_a_time(chart: Chart) -> None:
    objects = chart.render()
    budget = find(objects, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    selector = budget["selector"]["matchLabels"].items()
    assert selector <= worker(find(objects, "PyTorchJob"))["metadata"]["labels"].items()
    coordinator = find(objects, "Deployment", "demo-coordinator")["spec"]["template"]["metadata"]["labels"]
    assert not selector <= coordinator.items()


def test_switched_to_ray_which_has_no_scale_to_count_from(chart: Chart) -> None:
    budget = chart.one("PodDisruptionBudget", values={"backend": "rayjob", "workers": {"replicas": 4}})["spec"]
    assert budget["minAvailable"] == 3
    assert "maxUnavailable" not in budget


def test_refused_no_workers(chart: Chart) -> None:
    assert "/workers/replicas" in chart.refusal({"backend": "rayjob", "workers": {"replicas": 0}})
