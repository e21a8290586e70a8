"""Every object that the chart can render meets Kubernetes' schemas, pod security and the product's labels."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object, merged, pods
from tests.charts.standards import LABELS, insecurities, problems

TOLERATIONS = [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]
# As much as can be switched on at once.
EVERYTHING: Object = {
    "image": {"pullSecrets": [{"name": "registry"}], "digest": "sha256:" + "a" * 64},
    "workers": {
        "env": [{"name": "A", "value": "b"}],
        "envFrom": [{"secretRef": {"name": "tracker"}}],
        "resources": {"limits": {"memory": "32Gi"}},
    },
    "gpu": {"perWorker": 8, "product": "NVIDIA-H100-80GB-HBM3", "pricePerHour": 1.5},
    "nodePool": {
        "selector": {"pool": "gpu"},
        "tolerations": TOLERATIONS,
        "affinity": {"podAffinity": {}},
        "topologySpread": "kubernetes.io/hostname",
        "priorityClassName": "training",
    },
    "store": {
        "secretName": "keys",  # pragma: allowlist secret
        "secretMountPath": "/keys",
        "env": [{"name": "AWS_REGION", "value": "x"}],
        "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn"},
        "podLabels": {"azure.workload.identity/use": "true"},
        "volume": {"claimName": "disk"},
    },
    "coordinator": {"nodeSelector": {"pool": "cpu"}, "tolerations": TOLERATIONS, "priorityClassName": "high"},
    "scheduling": {"queueName": "team", "schedulerName": "gang", "gang": True},
    "lifecycle": {"ttlSecondsAfterFinished": 60, "activeDeadlineSeconds": 1000000, "suspend": True},
    "network": {"env": [{"name": "NCCL_DEBUG", "value": "INFO"}]},
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prom"}},
        "dashboards": {"enabled": True},
        "rules": {"enabled": True},
    },
    "policy": {"enabled": True},
    "jobs": {
        "nodeSelector": {"pool": "cpu"},
        "tolerations": TOLERATIONS,
        "prepare": {"enabled": True, "inlinePipeline": {"name": "x"}},
        "tokenizer": {"enabled": True, "inlinePipeline": {"name": "x"}},
        "evaluate": {"enabled": True},
        "export": {"enabled": True},
        "tensorboard": {"enabled": True},
    },
}
CASES = {
    "default": {},
    "cpus": {"gpu": {"perWorker": None}},
    "users-of-the-cluster": {"security": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
    "a-long-tag": {"image": {"tag": "v1." + "0" * 60 + "-main"}},
    "ray": {"backend": "rayjob"},
    "everything": EVERYTHING,
    "everything-ray": EVERYTHING | {"backend": "rayjob"},
}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_objects_are_valid_secure_and_labelled(chart: Chart, values: Object) -> None:
    objects = chart.render(values)
    assert [problem for node in objects for problem in problems(node)] == []


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_the_longest_name_fits_everywhere(chart: Chart, values: Object) -> None:
    for backend in ("pytorchjob", "rayjob"):
        objects = chart.render(merged(values, {"backend": backend}), release="a" * 40)
        assert [problem for node in objects for problem in problems(node)] == []


def test_only_pods_that_reach_the_store_hold_its_credentials(chart: Chart) -> None:
    for node in chart.render(EVERYTHING):
        for pod in pods(node):
            role = pod["metadata"]["labels"]["app.kubernetes.io/component"]
            mounted = {volume["name"] for volume in pod["spec"].get("volumes", [])}
            assert ("credentials" in mounted) == (role not in ("coordinator", "submitter")), role


@pytest.mark.parametrize("backend", ["pytorchjob", "rayjob"])
def test_nothing_listens_on_ipv4_alone(chart: Chart, backend: str) -> None:
    assert "0.0.0.0" not in chart.template(EVERYTHING | {"backend": backend}).stdout


def test_renders_identically_again(chart: Chart) -> None:
    """No clock, no random number, no look into a cluster: GitOps sees no change where there is none."""
    files = ("--values", str(chart.path / "values-neox-1.4b.yaml"))
    first, again = (chart.template(EVERYTHING, *files, *more).stdout for more in ((), ("--debug",)))
    assert first == again
    for file in sorted(chart.path.rglob("templates/**/*")):
        if file.is_file():
            words = set(file.read_text().replace("(", " ").split())
            assert not words & {"lookup", "now", "randAlphaNum", "uuidv4", "genCA", "randBytes"}, file.name


def test_two_releases_share_no_name_and_no_selector(chart: Chart) -> None:
    first, second = chart.render(EVERYTHING, release="a"), chart.render(EVERYTHING, release="b")
    names = [{(node["kind"], node["metadata"]["name"]) for node in objects} for objects in (first, second)]
    assert not names[0] & names[1]
    selectors = [
        [node["spec"]["selector"] for node in objects if "selector" in node.get("spec", {})]
        for objects in (first, second)
    ]
    assert len(selectors[0]) == 6
    assert all(selector not in selectors[1] for selector in selectors[0])


def test_the_standards_notice_what_is_wrong(chart: Chart) -> None:
    """The checks above can fail: a pod on the nodes' network, a key that a CRD lacks, a label that is gone."""
    values = {"network": {"hostNetwork": True, "policy": {"enabled": False}}}
    job = chart.one("PyTorchJob", values=values)
    assert insecurities(pods(job)[0]["spec"]) == ["hostNetwork: true"]
    job["spec"]["nodes"] = 1
    del job["metadata"]["labels"][LABELS[0]]
    pods(job)[0]["spec"]["containers"][0]["images"] = "x"
    found = "\n".join(problems(job))
    for words in ("nodes", f"label {LABELS[0]} is missing", "images"):
        assert words in found
