"""What runs on the cluster beside the project's own: training operator, KubeRay, priority classes.

Operators come from the manifests that lie in their own Go modules; changed are their images, which are built here, the
node they run on, and how soon their readiness is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import layout, node_images
from tests.cluster.machines import Machine, run
from tests.cluster.tools import SOURCES, module_folder, tool

READY_SECONDS = 180
# Program -> its module, the kustomization in it, and the Deployment that this makes.
OPERATORS = {
    "training-operator": (
        "github.com/kubeflow/training-operator",
        "manifests/overlays/standalone",
        ("kubeflow", "training-operator"),
    ),
    "ray-operator": ("github.com/ray-project/kuberay/ray-operator", "config/default", ("default", "kuberay-operator")),
}
PRIORITIES = {"gpt-run-low": 1_000, "gpt-run-high": 100_000}
# A Secret in the namespace `default` that tells tests what a kubeconfig cannot: images and the S3 server.
DESCRIPTION = "gpt-run-test"


def start_addons(nodes: Sequence[Machine]) -> None:
    """Apply everything; `wait_for_addons` waits until it runs."""
    apply([priority(name, value) for name, value in PRIORITIES.items()])
    for name in OPERATORS:
        node_images.provide_program(nodes, name)
        apply(operator_objects(name))


def wait_for_addons() -> None:
    """Wait until the operators answer: a job that comes before their webhooks is refused."""
    for _, _, (namespace, name) in OPERATORS.values():
        timeout = f"--timeout={READY_SECONDS}s"
        kubectl("--namespace", namespace, "rollout", "status", f"deployment/{name}", timeout)


def describe(image: str) -> None:
    """Leave the description for tests."""
    content = {
        "image": image,
        "s3-endpoint": f"http://{layout.CONTROL}:{layout.S3_PORT}",
        "s3-access-key": layout.S3_ACCESS_KEY,
        "s3-secret-key": layout.S3_SECRET_KEY,
    }
    metadata = {"name": DESCRIPTION, "namespace": "default"}
    apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": content}])


def operator_objects(name: str) -> list[dict[str, Any]]:
    """The objects of an operator's manifest, fitted to this cluster."""
    module, kustomization, _ = OPERATORS[name]
    rendered = kubectl("kustomize", str(module_folder(SOURCES[name].pins, module) / kustomization))
    found = [one for one in yaml.safe_load_all(rendered) if one is not None]
    for one in found:
        if one["kind"] == "Deployment":
            fit(one["spec"]["template"]["spec"], layout.program_image(name))
    return found


def fit(pod: dict[str, Any], image: str) -> None:
    """Change a pod template: our image, the node that tests leave alone, ready as soon as it is."""
    pod["nodeSelector"] = {"kubernetes.io/hostname": layout.PLATFORM_NODE}
    for container in pod["containers"]:
        container |= {"image": image, "imagePullPolicy": "Never"}
        container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1, "failureThreshold": 60}


def priority(name: str, value: int) -> dict[str, Any]:
    """A PriorityClass."""
    api = "scheduling.k8s.io/v1"
    return {"apiVersion": api, "kind": "PriorityClass", "metadata": {"name": name}, "value": value}


def apply(objects: Sequence[dict[str, Any]]) -> None:
    """Apply objects, on the server's side: some definitions are too large for the annotation of the other way."""
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=content)


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """kubectl as the cluster's administrator; what it remembers of the API goes with the cluster."""
    command: list[str | Path] = [
        "env",
        f"KUBECACHEDIR={layout.STATE}/kubectl-cache",
        tool("kubectl"),
        "--kubeconfig",
        layout.KUBECONFIG,
    ]
    return run(*command, *arguments, stdin=stdin)
