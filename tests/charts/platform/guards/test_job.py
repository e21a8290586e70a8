"""templates/guards/job.yaml of the platform; tests/cluster/test_guards.py asks an API server what it refuses."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object


def test_default(platform: Chart) -> None:
    spec = platform.one("ValidatingAdmissionPolicy", "demo-job")["spec"]
    constraints = spec["matchConstraints"]
    assert constraints["objectSelector"]["matchExpressions"] == [{"key": "gptrun.io/run", "operator": "Exists"}]
    assert constraints["resourceRules"][0]["operations"] == ["CREATE", "UPDATE"]
    assert len(spec["validations"]) == 2
    assert platform.one("ValidatingAdmissionPolicyBinding", "demo-job")["spec"] == {
        "policyName": "demo-job",
        "validationActions": ["Deny"],
    }


def test_default_says_the_same_as_the_scale_guard(platform: Chart) -> None:
    scale, job = (platform.one("ValidatingAdmissionPolicy", f"demo-{name}")["spec"] for name in ("scale", "job"))
    assert scale["validations"][0]["messageExpression"] in job["validations"][0]["messageExpression"]


def test_bounds_that_leave_out_the_workers_are_answered_with_what_to_do_first(platform: Chart) -> None:
    """As CEL puts the words together, which an API server alone can do; see tests/cluster/test_guards.py."""
    spec = platform.one("ValidatingAdmissionPolicy", "demo-job")["spec"]
    said = spec["validations"][0]["messageExpression"].rpartition(" : 'run ")[2]
    assert "scale first, then change the bounds again: kubectl scale tr/' + object.metadata.name" in said
    assert "variables.workers > variables.most ? variables.most : variables.fewest" in said
    assert "\n" not in said


def test_switched(platform: Chart) -> None:
    values = {"guards": {"action": "Audit", "namespaceSelector": {"matchLabels": {"team": "ml"}}}}
    binding = platform.one("ValidatingAdmissionPolicyBinding", "demo-job", values)["spec"]
    assert binding["validationActions"] == ["Audit"]
    assert binding["matchResources"]["namespaceSelector"] == {"matchLabels": {"team": "ml"}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"action": "Refuse"}, "/guards/action"),
        ({"namespaceSelector": {"team": "ml"}}, "/guards/namespaceSelector"),
    ],
)
def test_refused(platform: Chart, values: Object, words: str) -> None:
    assert words in platform.refusal({"guards": values})
