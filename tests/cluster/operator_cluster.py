"""What tests do to the operator's plane, and look at (tests/cluster/test_operator_api.py and its siblings)."""

from __future__ import annotations

from typing import Any

from kubernetes import client

from tests.cluster.operator_plane import NAMESPACE, Plane, pytorchjob, training_run, wait_until

# On a machine that does other things as well.
SECONDS = 60
JOBS, RAY_JOBS, RUNS = (
    ("kubeflow.org", "v1", "pytorchjobs"),
    ("ray.io", "v1", "rayjobs"),
    (
        "gptrun.io",
        "v1alpha1",
        "trainingruns",
    ),
)


class Cluster:
    """What tests do to the plane, and look at."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.api = plane.api()
        self.core = client.CoreV1Api(self.api)
        self.custom = client.CustomObjectsApi(self.api)

    def create(self, body: dict[str, Any], namespace: str = NAMESPACE) -> None:
        """A job or a TrainingRun."""
        group, version = body["apiVersion"].split("/")
        self.custom.create_namespaced_custom_object(group, version, namespace, f"{body['kind'].lower()}s", body)

    def get(self, kind: tuple[str, str, str], name: str) -> dict[str, Any]:
        """One object."""
        group, version, plural = kind
        found: dict[str, Any] = self.custom.get_namespaced_custom_object(group, version, NAMESPACE, plural, name)
        return found

    def patch(self, kind: tuple[str, str, str], name: str, body: dict[str, Any]) -> None:
        """Merge."""
        group, version, plural = kind
        self.custom.patch_namespaced_custom_object(group, version, NAMESPACE, plural, name, body)

    def replicas(self, name: str) -> int:
        """Workers that a PyTorchJob asks for."""
        return int(self.get(JOBS, name)["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"])

    def set_replicas(self, name: str, replicas: int) -> None:
        """Scale the job itself."""
        self.patch(JOBS, name, {"spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": replicas}}}})

    def suspended(self, name: str) -> bool:
        """Whether a PyTorchJob is."""
        return bool(self.get(JOBS, name)["spec"]["runPolicy"].get("suspend"))

    def pods(self, name: str) -> list[Any]:
        """Of a PyTorchJob."""
        selector = f"training.kubeflow.org/job-name={name}"
        return list(self.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items)

    def running(self, name: str) -> int:
        """Pods that run."""
        return sum(pod.status.phase == "Running" for pod in self.pods(name))

    def status(self, name: str) -> dict[str, Any]:
        """Of a TrainingRun."""
        return self.get(RUNS, name).get("status") or {}

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        found = [one for one in self.status(name).get("conditions", ()) if one["type"] == kind]
        return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ("", "", "")

    def events(self, name: str) -> list[tuple[str, str]]:
        """Reason and message of the operator's Events about a run."""
        found = self.core.list_namespaced_event(NAMESPACE, field_selector=f"involvedObject.name={name}").items
        return [(one.reason, one.message) for one in found if one.reporting_component == "gpt-run-operator"]

    def run(self, name: str, replicas: int = 2, **spec: Any) -> None:
        """A job that runs, and its TrainingRun, looked after."""
        self.create(pytorchjob(name, replicas))
        self.until(lambda: self.running(name) == replicas, f"the pods of {name} do not run")
        self.create(training_run(name, **spec))
        self.until(lambda: self.status(name).get("phase") == "Running", lambda: f"{name}: {self.status(name)}")

    def until(self, found: Any, complaint: Any, seconds: float = SECONDS) -> None:
        """Wait."""
        wait_until(found, seconds, complaint)


def member(name: str) -> dict[str, Any]:
    """A launcher that is heard."""
    return {"id": name, "host": name, "slots": 1, "rank": 0, "step": 1, "last_seen_seconds": 0.1}
