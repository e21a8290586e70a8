"""templates/jobs/hooks.yaml: what hooks read before the release exists."""

from __future__ import annotations

from tests.charts.rendering import Chart, find

ROLE = {"iam.gke.io/gcp-service-account": "a@b.iam.gserviceaccount.com"}


def test_default_the_same_run_file(chart: Chart) -> None:
    objects = chart.render()
    assert find(objects, "ConfigMap", "demo-hooks")["data"] == find(objects, "ConfigMap", "demo-run")["data"]
    assert "ServiceAccount/demo-hooks" not in chart.kinds()


def test_switched_with_an_identity_of_their_own(chart: Chart) -> None:
    objects = chart.render({"store": {"serviceAccountAnnotations": ROLE}})
    account = find(objects, "ServiceAccount", "demo-hooks")
    assert ROLE.items() <= account["metadata"]["annotations"].items()
    assert find(objects, "Job", "demo-preflight")["spec"]["template"]["spec"]["serviceAccountName"] == "demo-hooks"
    assert "ConfigMap/demo-hooks" not in chart.kinds({"jobs": {"preflight": {"enabled": False}}})


def test_refused(chart: Chart) -> None:
    assert "/jobs/resources" in chart.refusal({"jobs": {"resources": {"request": {}}}})
