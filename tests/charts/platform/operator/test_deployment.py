"""templates/operator/deployment.yaml of the platform."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object, container


def deployment(platform: Chart, **values: object) -> Object:
    return platform.one("Deployment", "demo-operator", {"operator": values})


def test_default(platform: Chart) -> None:
    made = deployment(platform)
    assert made["spec"]["replicas"] == 2
    # A copy goes when another is there.
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = made["spec"]["template"]
    assert pod["spec"]["serviceAccountName"] == "demo-operator"
    assert pod["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert made["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert pod["metadata"]["labels"]["gptrun.io/component"] == "operator"
    runs = container(pod)
    assert runs["image"] == "ghcr.io/gpt-run/operator:0.1.0"
    assert runs["command"] == ["python", "-m", "operators"]
    assert runs["args"] == [
        "--namespace=",
        "--lease-namespace=default",
        "--lease-name=demo-operator",
        "--status-interval-seconds=30",
        "--poll-seconds=10",
        "--metrics-port=9090",
        "--log-format=json",
    ]
    assert {runs[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "/healthz"
    }
    assert {port["name"]: port["containerPort"] for port in runs["ports"]} == {"http": 9090}


def test_switched(platform: Chart) -> None:
    digest = "sha256:" + "a" * 64
    tolerations = [{"key": "a", "operator": "Exists"}]
    made = deployment(
        platform,
        replicas=3,
        image={"repository": "example.org/op", "digest": digest, "pullSecrets": [{"name": "keys"}]},
        namespace="team-a",
        statusIntervalSeconds=10_000_000,
        nodeSelector={"pool": "cpu"},
        tolerations=tolerations,
        priorityClassName="system-cluster-critical",
        topologySpread="",
        security={"runAsUser": None, "runAsGroup": None},
    )
    assert made["spec"]["replicas"] == 3
    spec = made["spec"]["template"]["spec"]
    runs = container(made["spec"]["template"])
    assert runs["image"] == f"example.org/op@{digest}"
    assert {"--namespace=team-a", "--status-interval-seconds=10000000"} <= set(runs["args"])
    assert spec["imagePullSecrets"] == [{"name": "keys"}]
    assert (spec["nodeSelector"], spec["tolerations"]) == ({"pool": "cpu"}, tolerations)
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert "topologySpreadConstraints" not in spec
    assert not {"runAsUser", "runAsGroup"} & spec["securityContext"].keys()


def test_switched_off(platform: Chart) -> None:
    """Nothing of it is left."""
    left = platform.kinds({"operator": {"enabled": False}})
    assert not [name for name in left if name.endswith(("-operator", "-lease", "-edit", "-view"))]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replicas": 0}, "/operator/replicas"),
        ({"image": {"digest": "sha256:1"}}, "/operator/image/digest"),
        ({"pollSeconds": 0}, "/operator/pollSeconds"),
        ({"logFormat": "xml"}, "/operator/logFormat"),
        ({"security": {"runAsUser": 0}}, "/operator/security/runAsUser"),
    ],
)
def test_refused(platform: Chart, values: Object, words: str) -> None:
    assert words in platform.refusal({"operator": values})
