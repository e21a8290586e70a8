"""templates/operator/serviceaccount.yaml of the platform."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object


def test_default(platform: Chart) -> None:
    made = platform.one("ServiceAccount", "demo-operator")
    # Only the pod that says so gets a token.
    assert made["automountServiceAccountToken"] is False
    assert "annotations" not in made["metadata"]


def test_switched(platform: Chart) -> None:
    values = {"operator": {"serviceAccount": {"annotations": {"a": "b"}}}}
    assert platform.one("ServiceAccount", "demo-operator", values)["metadata"]["annotations"] == {"a": "b"}


def test_switched_to_one_that_is_there(platform: Chart) -> None:
    values: Object = {"operator": {"serviceAccount": {"create": False, "name": "theirs"}}}
    assert "ServiceAccount/demo-operator" not in platform.kinds(values)
    pod = platform.one("Deployment", "demo-operator", values)["spec"]["template"]
    assert pod["spec"]["serviceAccountName"] == "theirs"
    binding = platform.one("ClusterRoleBinding", "demo-operator", values)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "theirs", "namespace": "default"}]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "theirs"}, 'operator.serviceAccount.name: "theirs" is for an account that is there'),
        ({"create": False}, "operator.serviceAccount.name: empty"),
        ({"create": False, "name": "theirs", "annotations": {"a": "b"}}, 'account "theirs" is not the chart\'s'),
    ],
)
def test_refused(platform: Chart, values: Object, words: str) -> None:
    assert words in platform.refusal({"operator": {"serviceAccount": values}})
