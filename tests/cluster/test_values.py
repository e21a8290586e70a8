"""What the values files ask for: pods on the nodes that were meant, and objects that the real API server takes.

Nodes with GPUs only pretend (tests/cluster/kwok.py); the scheduler and both operators are real.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generator.manifests import OVERLAYS
from charts.generator.runs import RUNS, RunFile
from tests.cluster import bringup, kwok
from tests.cluster.client import Namespace, Object
from tests.cluster.conftest import KUBECONFIG
from tests.cluster.runs import CHART, RESOURCES
from tests.integration.training import merged

MANIFESTS = Path(__file__).parents[2] / "manifests"
# What nobody but the user knows.
STORE_AND_DATA = {"store": {"url": "s3://bucket/runs"}, "run": {"data": {"train": "s3://bucket/data"}}}
# Everything that the chart can make beside the training; kinds whose CRDs are not here apart.
ALL_JOBS = {
    "jobs": {name: {"enabled": True} for name in ("tokenizer", "prepare", "evaluate", "export", "tensorboard")},
}
PRODUCTS = {"h100": "NVIDIA-H100-80GB-HBM3", "a100": "NVIDIA-A100-SXM4-80GB", "l40s": "NVIDIA-L40S"}
GPUS = 8
PRODUCT = "nvidia.com/gpu.product"
TEAM = {"key": "team", "operator": "Equal", "value": "research", "effect": "NoSchedule"}
WAIT_SECONDS = 120


@pytest.fixture(scope="module")
def pools(cluster: object) -> Iterator[None]:
    """Three nodes of each product; of the H100, a fourth that is another team's."""
    if os.environ.get(KUBECONFIG):
        pytest.skip("nodes that only pretend are added to the test cluster alone")
    control = bringup.machines()["control"]
    kwok.remove_nodes(control)
    nodes = [
        kwok.gpu_node(f"{kind}-{number}", {PRODUCT: product, "pool": kind}, GPUS)
        for kind, product in PRODUCTS.items()
        for number in range(3)
    ]
    research = kwok.gpu_node("h100-research", {PRODUCT: PRODUCTS["h100"], "pool": "research"}, GPUS)
    research["spec"]["taints"].append({key: TEAM[key] for key in ("key", "value", "effect")})
    kwok.add_nodes(control, [*nodes, research])
    yield
    kwok.remove_nodes(control)


def install(namespace: Namespace, file: str, description: dict[str, str], changes: Object) -> None:
    """`helm install demo` of a values file with store and data alone.

    The coordinator or Ray's head is on a real node, so the image is the tests' own. Nobody is there to look at.
    """
    repository, _, tag = description["image"].rpartition(":")
    values = {
        **STORE_AND_DATA,
        "image": {"repository": repository, "tag": tag},
        "jobs": {"preflight": {"enabled": False}},
        "ray": {"head": {"resources": RESOURCES}},
        **changes,
    }
    namespace.helm("install", "demo", str(CHART), "--values", str(CHART / file), values=values)


def placed(namespace: Namespace, number: int) -> dict[str, str]:
    """Worker -> its node, once so many have one."""

    def nodes() -> dict[str, str] | None:
        pods = namespace.objects("pods", "gptrun.io/component=worker")
        found = {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in pods}
        return found if sum(map(bool, found.values())) == number else None

    return namespace.wait(f"{number} workers on nodes", WAIT_SECONDS, nodes)


def worker_pods(namespace: Namespace) -> list[Object]:
    """Worker pods."""
    return namespace.objects("pods", "gptrun.io/component=worker")


def pool_of(node: str) -> str:
    """The pool's name, which the node's begins with."""
    return node.rpartition("-")[0]


@pytest.mark.usefixtures("pools")
@pytest.mark.parametrize(
    ("file", "kind", "gpus"), [("values-h100.yaml", "h100", 8), ("values-l40s-ray.yaml", "l40s", 4)]
)
def test_workers_go_to_nodes_of_the_product(
    namespace: Namespace, description: dict[str, str], file: str, kind: str, gpus: int
) -> None:
    install(namespace, file, description, {})

    nodes = placed(namespace, 2)
    print(f"{file}: {nodes}")
    assert {pool_of(node) for node in nodes.values()} == {kind}
    for pod in worker_pods(namespace):
        spec = pod["spec"]
        assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == str(gpus)
        assert spec["nodeSelector"] == {PRODUCT: PRODUCTS[kind]}
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]


@pytest.mark.usefixtures("pools")
def test_a_full_pool_is_not_left_for_another(namespace: Namespace, description: dict[str, str]) -> None:
    install(namespace, "values-h100.yaml", description, {"workers": {"replicas": 4}})

    nodes = placed(namespace, 3)
    assert sorted(nodes.values()) == ["", "h100-0", "h100-1", "h100-2"]
    waiting = next(pod for pod in worker_pods(namespace) if not pod["spec"].get("nodeName"))
    said = namespace.wait("reason for waiting", WAIT_SECONDS, lambda: unschedulable(namespace, waiting))
    print(f"{waiting['metadata']['name']}: {said}")
    assert "Insufficient nvidia.com/gpu" in said


@pytest.mark.usefixtures("pools")
def test_a_selector_and_a_toleration_choose_the_pool(namespace: Namespace, description: dict[str, str]) -> None:
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, TEAM]
    pool = {"selector": {"pool": "research"}, "tolerations": tolerations}
    half = {"gpu": {"perWorker": 4}, "workers": {"resources": {"requests": {"cpu": 40, "memory": "100Gi"}}}}
    install(namespace, "values-h100.yaml", description, {"nodePool": pool, **half})

    nodes = placed(namespace, 2)
    assert set(nodes.values()) == {"h100-research"}
    selectors = [pod["spec"]["nodeSelector"] for pod in worker_pods(namespace)]
    assert selectors == [{PRODUCT: PRODUCTS["h100"], "pool": "research"}] * 2


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_api_server_takes_every_object_and_pod(namespace: Namespace, run: RunFile) -> None:
    """By a dry run of all that a values file and all jobs render, and of each pod on its own.

    A pod template below the namespace's standard is only warned about; the pod is refused.
    """
    claim = {"store": {"volume": {"claimName": "gpt-run"}}}
    values = merged(ALL_JOBS, claim) if "store" in run.more else merged(STORE_AND_DATA, ALL_JOBS, claim)
    objects = rendered(namespace, values, "--values", str(CHART / run.file))
    pods = pods_of(objects)
    taken = dry_run(namespace, [*objects, *pods]).splitlines()
    print(f"{run.file}: {len(objects)} objects and {len(pods)} pods taken")
    assert len(taken) == len(objects) + len(pods)
    assert {one["kind"] for one in objects} >= {"Job", "ConfigMap", "Pod"}
    assert len(pods) >= 9


def test_a_pod_below_the_standard_is_refused(namespace: Namespace) -> None:
    """Else the test above could not fail."""
    open_network = {"network": {"hostNetwork": True, "policy": {"enabled": False}}}
    objects = rendered(namespace, {**STORE_AND_DATA, **open_network}, "--values", str(CHART / "values-h100.yaml"))
    job = next(one for one in objects if one["kind"] == "PyTorchJob")
    with pytest.raises(RuntimeError, match=r'violates PodSecurity "restricted:latest": host namespaces'):
        dry_run(namespace, [*[one for one in objects if one["kind"] == "ServiceAccount"], *pods_of([job])])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_takes_every_overlay(namespace: Namespace, overlay: str) -> None:
    arguments = ("--server-side", "--dry-run=server", "--kustomize", str(MANIFESTS / "overlays" / overlay))
    taken = namespace.kubectl("apply", *arguments).splitlines()
    print(f"{overlay}: {len(taken)} objects taken")
    job = "rayjob.ray.io" if overlay == "rayjob" else "pytorchjob.kubeflow.org"
    assert f"{job}/gpt-run serverside-applied (server dry run)" in taken


def rendered(namespace: Namespace, values: Object, *options: str) -> list[Object]:
    """All objects of a release `demo`, hooks and tests too."""
    text = namespace.helm("template", "demo", str(CHART), "--kube-version", "1.34", *options, values=values)
    return [one for one in yaml.safe_load_all(text) if one]


def dry_run(namespace: Namespace, objects: list[Object]) -> str:
    """What the API server says to objects, of which it makes the accounts alone. Raises RuntimeError if it refuses one.

    A pod is taken only if its account is there.
    """
    namespace.apply([one for one in objects if one["kind"] == "ServiceAccount"])
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    return namespace.kubectl("apply", "--server-side", "--dry-run=server", "--filename=-", stdin=content)


def pods_of(objects: list[Object]) -> list[Object]:
    """A pod for each pod template in objects."""
    specs = [{"restartPolicy": "Always", **spec} for spec in pod_specs(objects)]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, "spec": spec}
        for number, spec in enumerate(specs)
    ]


def pod_specs(found: Any) -> list[Object]:
    """Specs of pods, however deep."""
    if isinstance(found, list):
        return [spec for one in found for spec in pod_specs(one)]
    if not isinstance(found, dict):
        return []
    return [found] if "containers" in found else [spec for one in found.values() for spec in pod_specs(one)]


def unschedulable(namespace: Namespace, pod: Object) -> str | None:
    """Why the scheduler lets a pod wait."""
    found = namespace.get("pod", pod["metadata"]["name"])
    conditions = found["status"].get("conditions", []) if found else []
    return next((one["message"] for one in conditions if one.get("reason") == "Unschedulable"), None)
