"""The platform's chart on the cluster, and runs with a TrainingRun: what tests of the operator share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.cluster import bringup, layout, node_images
from tests.cluster.client import Cluster, Namespace, Object
from tests.cluster.runs import CHART, HOST, WAIT_SECONDS, Run

PLATFORM = CHART.parent / "gpt-platform"
RELEASE, NAME = "platform", "gpt-run-system"
CRD = "trainingruns.gptrun.io"
# Values of charts/gpt-run: a TrainingRun that does not wait as long as one of a real run.
POLICY = {"enabled": True, "hang": {"seconds": 20}, "nodeLoss": {"seconds": 5}}
KIND = "trainingrun"


@dataclass(frozen=True)
class Platform:
    """The platform's release."""

    namespace: Namespace

    def upgrade(self, **values: Any) -> None:
        """Change values of the chart."""
        self.namespace.helm(
            "upgrade", RELEASE, str(PLATFORM), "--reuse-values", "--wait", f"--timeout={WAIT_SECONDS}s", values=values
        )

    @contextmanager
    def without_guards(self) -> Iterator[None]:
        """Let changes through that the API server would refuse."""
        self.upgrade(guards={"enabled": False})
        try:
            yield
        finally:
            self.upgrade(guards={"enabled": True})

    def logs(self) -> str:
        """What the operator's pods have said last."""
        pods = self.namespace.objects("pods", "gptrun.io/component=operator")
        return "\n".join(self.namespace.log(pod["metadata"]["name"], "--tail=60") for pod in pods)


@contextmanager
def installed(cluster: Cluster) -> Iterator[Platform]:
    """Install it, with the operator built from the sources, on the node that tests leave alone."""
    machines = bringup.machines()
    image = node_images.provide_project_image([machines[name] for name in layout.NODES], "operator")
    repository, _, tag = image.rpartition(":")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": NAME, "labels": labels}
    cluster.kubectl(
        "apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    )
    namespace = Namespace(cluster, NAME)
    operator = {
        "image": {"repository": repository, "tag": tag},
        "nodeSelector": {HOST: layout.PLATFORM_NODE},
        "pollSeconds": 2,
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
    }
    values = {"operator": operator, "dashboards": {"enabled": False}}
    try:
        namespace.helm(
            "upgrade", "--install", RELEASE, str(PLATFORM), "--wait", f"--timeout={WAIT_SECONDS}s", values=values
        )
        yield Platform(namespace)
    finally:
        namespace.helm("uninstall", RELEASE, "--ignore-not-found", "--wait")
        cluster.kubectl("delete", "customresourcedefinition", CRD, "--ignore-not-found")
        # Until it is gone: the next installation would find a namespace in which nothing can be made.
        cluster.kubectl("delete", "namespace", NAME, "--ignore-not-found", f"--timeout={WAIT_SECONDS}s")


def training_run(run: Run) -> Object:
    """The TrainingRun of a run."""
    found = run.namespace.get(KIND, run.name)
    assert found is not None, run.namespace.dump()
    return found


def status(run: Run) -> dict[str, Any]:
    """Its status; empty before the operator has seen it."""
    found: dict[str, Any] = training_run(run).get("status", {})
    return found


def condition(run: Run, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of one of its conditions."""
    found = [one for one in status(run).get("conditions", []) if one["type"] == kind]
    return (found[0]["status"], found[0]["reason"], found[0].get("message", "")) if found else ("", "", "")


def wait_for_phase(run: Run, phase: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until its phase is this one."""
    run.namespace.wait(f"phase {phase}", seconds, lambda: status(run).get("phase") == phase)


def events(namespace: Namespace, kind: str, name: str) -> list[Object]:
    """Events about an object, oldest first."""
    found = namespace.objects("events")
    mine = [one for one in found if (one["involvedObject"]["kind"], one["involvedObject"]["name"]) == (kind, name)]
    return sorted(mine, key=lambda one: one["metadata"]["creationTimestamp"])


def wait_for_event(run: Run, reason: str, seconds: float = WAIT_SECONDS) -> Object:
    """Wait for an Event with this reason."""
    found = run.namespace.wait(
        f"Event {reason}",
        seconds,
        lambda: [one for one in events(run.namespace, "TrainingRun", run.name) if one["reason"] == reason],
    )
    print(f"{reason}: {found[-1]['message']}")
    return found[-1]


def patch(run: Run, spec: Object) -> None:
    """`kubectl patch tr/NAME`."""
    content = json.dumps({"spec": spec})
    run.namespace.kubectl("patch", f"tr/{run.name}", "--type=merge", "--patch", content)


def scale_unguarded(run: Run, workers: int) -> None:
    """`kubectl scale` once the API server has noticed that the guards are gone."""

    def accepted() -> bool:
        try:
            run.scale(workers)
        except RuntimeError as refused:
            if "ValidatingAdmissionPolicy" not in str(refused):
                raise
            return False
        return True

    run.namespace.wait("end of the guards", 30, accepted)


def replicas(run: Run) -> int:
    """Worker pods that the job asks for."""
    return int(run.job()["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"])
