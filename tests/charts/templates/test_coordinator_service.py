"""templates/coordinator-service.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, find


def test_default_finds_the_coordinator(chart: Chart) -> None:
    objects = chart.render()
    service = find(objects, "Service", "demo-coordinator")
    labels = find(objects, "Deployment", "demo-coordinator")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {"rounds": 29400, "http": 29480}


def test_switched_finds_rays_head(chart: Chart) -> None:
    objects = chart.render({"backend": "rayjob"})
    service = find(objects, "Service", "demo-coordinator")
    head = find(objects, "RayJob")["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    assert service["spec"]["selector"].items() <= head["metadata"]["labels"].items()
    assert [port["name"] for port in service["spec"]["ports"]] == ["http"]


def test_refused_a_release_whose_service_would_have_no_name(chart: Chart) -> None:
    assert "must begin with a letter" in chart.refusal({}, release="1st")
