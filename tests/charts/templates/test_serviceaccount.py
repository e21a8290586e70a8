"""templates/serviceaccount.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, find, worker

ROLE = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}


def test_default(chart: Chart) -> None:
    objects = chart.render()
    account = find(objects, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert "annotations" not in account["metadata"]
    assert worker(find(objects, "PyTorchJob"))["spec"]["serviceAccountName"] == "demo"


def test_switched_workload_identity(chart: Chart) -> None:
    values = {"store": {"serviceAccountAnnotations": ROLE, "podLabels": {"azure.workload.identity/use": "true"}}}
    objects = chart.render(values)
    assert find(objects, "ServiceAccount")["metadata"]["annotations"] == ROLE
    job = worker(find(objects, "PyTorchJob"))
    assert job["metadata"]["labels"]["azure.workload.identity/use"] == "true"


def test_switched_to_an_account_that_exists(chart: Chart) -> None:
    objects = chart.render({"store": {"serviceAccountName": "team"}})
    assert "ServiceAccount" not in {node["kind"] for node in objects}
    assert worker(find(objects, "PyTorchJob"))["spec"]["serviceAccountName"] == "team"
    assert find(objects, "Job", "demo-preflight")["spec"]["template"]["spec"]["serviceAccountName"] == "team"


def test_refused_annotations_of_an_account_that_is_not_ours(chart: Chart) -> None:
    said = chart.refusal({"store": {"serviceAccountName": "team", "serviceAccountAnnotations": ROLE}})
    assert "store.serviceAccountAnnotations" in said
