"""Nodes with GPUs that only pretend (KWOK): the scheduler places pods on them, and they run as far as the API can see.

For tests of where pods go, with as many GPUs as they like.
"""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.addons import kubectl
from tests.cluster.control_plane import CERTIFICATES
from tests.cluster.machines import Machine
from tests.cluster.tools import ADDONS, module_folder, tool

ANNOTATION = "kwok.x-k8s.io/node"
# What its nodes and pods do, which it has to be told.
STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-delete.yaml",
)


def add_nodes(control: Machine, nodes: list[dict[str, Any]]) -> None:
    """Add nodes that `gpu_node` describes, and what plays their kubelet."""
    if not control.processes(tool("kwok")):
        stages = module_folder(ADDONS, "sigs.k8s.io/kwok") / "kustomize" / "stage"
        arguments = [
            f"--kubeconfig={CERTIFICATES}/kwok.kubeconfig",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
            "--node-lease-duration-seconds=40",
            *[f"--config={stages / stage}" for stage in STAGES],
        ]
        control.start("kwok", [tool("kwok"), *arguments])
    # Created, not applied: what a node says it has counts as status, which the server takes from `create` alone.
    kubectl("create", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))


def remove_nodes(control: Machine) -> None:
    """Remove all of them with their pods."""
    selector = f"--selector={ANNOTATION}=fake"
    kubectl("delete", "nodes", selector, "--ignore-not-found")
    control.stop(tool("kwok"))


def gpu_node(name: str, labels: dict[str, str], gpus: int = 8) -> dict[str, Any]:
    """A node that only pretends: its pods run as far as the API server can see."""
    resources = {"cpu": "96", "memory": "1Ti", "ephemeral-storage": "4Ti", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", ANNOTATION: "fake", **labels},
            "annotations": {ANNOTATION: "fake"},
        },
        # Nothing lands here unless it asks for GPUs' nodes, as on real pools.
        "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        "status": {"allocatable": resources, "capacity": resources},
    }
