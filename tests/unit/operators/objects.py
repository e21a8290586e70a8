"""Objects as an API server has given them, shortened to what is read and a little more."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

# Of training operator 1.9.4 and KWOK on Kubernetes 1.34.
PYTORCHJOB: dict[str, Any] = {
    "apiVersion": "kubeflow.org/v1",
    "kind": "PyTorchJob",
    "metadata": {
        "creationTimestamp": "2026-11-22T11:06:57Z",
        "generation": 2,
        "labels": {"gptrun.io/run": "demo"},
        "annotations": {"gptrun.io/run-sha256": "abc"},
        "name": "demo",
        "namespace": "runs",
        "resourceVersion": "241",
        "uid": "774948ae-cfdc-4e39-88ff-132284f2575d",
    },
    "spec": {
        "elasticPolicy": {"maxReplicas": 8, "minReplicas": 1, "rdzvBackend": "c10d"},
        "nprocPerNode": "8",
        "pytorchReplicaSpecs": {
            "Worker": {
                "replicas": 2,
                "restartPolicy": "OnFailure",
                "template": {
                    "spec": {
                        "containers": [
                            {
                                "image": "trainer",
                                "name": "pytorch",
                                "resources": {
                                    "limits": {"nvidia.com/gpu": 8, "memory": "512Gi"},
                                    "requests": {"cpu": "64", "memory": "256Gi"},
                                },
                            }
                        ],
                        "nodeSelector": {"gpu": "h100"},
                        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    }
                },
            }
        },
        "runPolicy": {"cleanPodPolicy": "Running", "suspend": False},
    },
    "status": {
        "conditions": [
            {
                "lastTransitionTime": "2026-11-22T11:06:57Z",
                "lastUpdateTime": "2026-11-22T11:06:57Z",
                "message": "PyTorchJob demo is created.",
                "reason": "PyTorchJobCreated",
                "status": "True",
                "type": "Created",
            },
            {
                "lastTransitionTime": "2026-11-22T11:07:31Z",
                "lastUpdateTime": "2026-11-22T11:07:31Z",
                "message": "PyTorchJob runs/demo is running.",
                "reason": "PyTorchJobRunning",
                "status": "True",
                "type": "Running",
            },
        ],
        "replicaStatuses": {"Worker": {"active": 2}},
        "startTime": "2026-11-22T11:06:57Z",
    },
}

RAYJOB: dict[str, Any] = {
    "apiVersion": "ray.io/v1",
    "kind": "RayJob",
    "metadata": {
        "creationTimestamp": "2026-11-22T11:06:57Z",
        "generation": 1,
        "labels": {"kueue.x-k8s.io/queue-name": "team"},
        "name": "demo",
        "namespace": "runs",
        "resourceVersion": "300",
        "uid": "0d7c",
    },
    "spec": {
        "entrypoint": "gpt-run ray /etc/gpt-run/run.yaml",
        "shutdownAfterJobFinishes": True,
        "rayClusterSpec": {
            "headGroupSpec": {"template": {"spec": {"containers": [{"name": "ray-head"}]}}},
            "workerGroupSpecs": [
                {
                    "groupName": "worker",
                    "replicas": 3,
                    "template": {"spec": {"containers": [{"name": "ray-worker", "image": "trainer"}]}},
                }
            ],
        },
    },
    "status": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "demo-x7f2q"},
}

POD: dict[str, Any] = {
    "metadata": {
        "creationTimestamp": "2026-11-22T11:06:57Z",
        "labels": {
            "training.kubeflow.org/job-name": "demo",
            "training.kubeflow.org/replica-index": "0",
            "training.kubeflow.org/replica-type": "worker",
        },
        "name": "demo-worker-0",
        "namespace": "runs",
        "ownerReferences": [
            {
                "apiVersion": "kubeflow.org/v1",
                "blockOwnerDeletion": True,
                "controller": True,
                "kind": "PyTorchJob",
                "name": "demo",
                "uid": "774948ae-cfdc-4e39-88ff-132284f2575d",
            }
        ],
        "resourceVersion": "260",
        "uid": "pod-0",
    },
    "spec": {
        "containers": [
            {
                "image": "trainer",
                "name": "pytorch",
                "resources": {"limits": {"nvidia.com/gpu": "8"}, "requests": {"nvidia.com/gpu": "8", "cpu": "500m"}},
            }
        ],
        "nodeName": "node-0",
    },
    "status": {
        "conditions": [
            {"lastTransitionTime": "2026-11-22T11:07:30Z", "status": "True", "type": "Ready"},
            {"lastTransitionTime": "2026-11-22T11:07:29Z", "status": "True", "type": "PodScheduled"},
        ],
        "containerStatuses": [
            {
                "image": "trainer",
                "name": "pytorch",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": "2026-11-22T11:07:30Z"}},
            }
        ],
        "phase": "Running",
    },
}

NODE: dict[str, Any] = {
    "metadata": {
        "labels": {"gpu": "h100", "kubernetes.io/hostname": "node-0"},
        "name": "node-0",
        "resourceVersion": "20",
        "uid": "node-uid",
    },
    "spec": {"taints": [{"effect": "NoSchedule", "key": "nvidia.com/gpu", "value": "present"}]},
    "status": {
        "allocatable": {"cpu": "96", "memory": "1Ti", "nvidia.com/gpu": "8", "pods": "110"},
        "conditions": [
            {"lastTransitionTime": "2026-11-22T11:06:50Z", "status": "False", "type": "MemoryPressure"},
            {"lastTransitionTime": "2026-11-22T11:06:50Z", "status": "True", "type": "Ready"},
        ],
    },
}

RUN: dict[str, Any] = {
    "apiVersion": "gptrun.io/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {
        "creationTimestamp": "2026-11-22T11:06:57Z",
        "generation": 1,
        "name": "demo",
        "namespace": "runs",
        "resourceVersion": "226",
        "uid": "6575e10c",
    },
    "spec": {
        "elastic": {"max": 4, "min": 1},
        "jobRef": {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": "demo"},
    },
}


def changed(body: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    """A copy with another value at a place."""
    copy = deepcopy(body)
    place: Any = copy
    for key in path[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[path[-1]] = to
    return copy


def named(body: dict[str, Any], name: str, uid: str, version: int = 1000) -> dict[str, Any]:
    """A copy that is another object."""
    copy = deepcopy(body)
    copy["metadata"] |= {"name": name, "uid": uid, "resourceVersion": str(version)}
    return copy
