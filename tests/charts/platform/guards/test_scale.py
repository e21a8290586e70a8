"""templates/guards/scale.yaml of the platform; tests/cluster/test_guards.py asks an API server what it refuses."""

from __future__ import annotations

from tests.charts.rendering import Chart


def test_default(platform: Chart, chart: Chart) -> None:
    spec = platform.one("ValidatingAdmissionPolicy", "demo-scale")["spec"]
    assert spec["matchConstraints"]["resourceRules"][0]["resources"] == ["pytorchjobs/scale"]
    # The jobs of runs are its parameters, and those alone.
    job = chart.one("PyTorchJob")
    assert spec["paramKind"] == {"apiVersion": job["apiVersion"], "kind": job["kind"]}
    binding = platform.one("ValidatingAdmissionPolicyBinding", "demo-scale")["spec"]
    assert binding["paramRef"]["selector"]["matchExpressions"] == [{"key": "gptrun.io/run", "operator": "Exists"}]
    assert binding["paramRef"]["parameterNotFoundAction"] == "Allow"
    assert "gptrun.io/run" in job["metadata"]["labels"]
    assert (binding["policyName"], binding["validationActions"]) == ("demo-scale", ["Deny"])


def test_switched(platform: Chart) -> None:
    selector = {"matchLabels": {"team": "ml"}}
    values = {"guards": {"action": "Warn", "namespaceSelector": selector}}
    binding = platform.one("ValidatingAdmissionPolicyBinding", "demo-scale", values)["spec"]
    assert binding["validationActions"] == ["Warn"]
    assert binding["matchResources"] == {"namespaceSelector": selector}
    assert not [name for name in platform.kinds({"guards": {"enabled": False}}) if "Admission" in name]


def test_refused_by_an_old_api_server(platform: Chart) -> None:
    said = platform.refusal({}, "--kube-version", "1.29.9")
    assert "guards.enabled: ValidatingAdmissionPolicy needs Kubernetes 1.30, this is v1.29.9" in said
    made = platform.template({"guards": {"enabled": False}}, "--kube-version", "1.29.9")
    assert made.returncode == 0, made.stderr
