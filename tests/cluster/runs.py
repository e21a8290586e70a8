"""Runs on the cluster: installed from the chart, watched through the coordinator, scaled by kubectl."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.client import Namespace, Object
from tests.cluster.store import SECRET, Store
from tests.integration.training import RUN, merged

CHART = Path(__file__).parents[2] / "charts" / "gpt-run"
LABEL = "gptrun.io/component"
# A few thousand parameters on a shared machine: what a pod needs is torch's own memory.
RESOURCES = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}}
# Machines that run these tests are slow and shared: a limit says that something is stuck, not how fast it should be.
WAIT_SECONDS = 300
SMALL = {"shm": "256Mi", "ephemeralStorage": "1Gi"}


@dataclass(frozen=True)
class Run:
    """A run in a namespace."""

    name: str
    namespace: Namespace
    store: Store

    def job(self) -> Object:
        """The PyTorchJob."""
        found = self.namespace.get("pytorchjob", self.name)
        assert found is not None, f"no PyTorchJob {self.name}:\n{self.namespace.dump()}"
        return found

    def conditions(self) -> dict[str, str]:
        """The job's conditions that hold, and the reasons."""
        conditions = self.job().get("status", {}).get("conditions") or []
        return {one["type"]: one["reason"] for one in conditions if one["status"] == "True"}

    def workers(self) -> list[Object]:
        """Worker pods."""
        return self.namespace.objects("pods", f"{LABEL}=worker")

    def running_workers(self) -> list[str]:
        """Names of worker pods whose container runs."""
        return [
            pod["metadata"]["name"]
            for pod in self.workers()
            if any(status["state"].get("running") for status in pod["status"].get("containerStatuses", []))
        ]

    def status(self) -> dict[str, Any]:
        """The coordinator's /status; empty while nobody answers."""
        try:
            found: dict[str, Any] = json.loads(self.namespace.service(f"{self.name}-coordinator", "http", "status"))
        except RuntimeError:
            return {}
        return found

    def scale(self, workers: int) -> None:
        """`kubectl scale`."""
        self.namespace.kubectl("scale", f"pytorchjob/{self.name}", f"--replicas={workers}")

    def wait_for_step(self, step: int, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the run is at a step or beyond."""
        self.namespace.wait(f"step {step}", seconds, lambda: (self.status().get("step") or 0) >= step)

    def wait_for_world(self, size: int, seconds: float = WAIT_SECONDS) -> None:
        """Wait until so many ranks train together."""

        def trains() -> bool:
            status = self.status()
            return status.get("world_size") == size and status.get("phase") == "training"

        self.namespace.wait(f"world of {size}", seconds, trains)

    def wait_for_attempt(self, attempt: int, size: int | None = None, seconds: float = WAIT_SECONDS) -> None:
        """Wait until an attempt or a later one trains, with so many ranks."""

        def trains() -> bool:
            status = self.status()
            reached = (status.get("attempt") or "") >= f"a{attempt:04}" and status.get("phase") == "training"
            return reached and size in (None, status.get("world_size"))

        self.namespace.wait(f"attempt {attempt}", seconds, trains)

    def wait_for_end(self, seconds: float = 600) -> str:
        """Wait for the job's end: Succeeded or Failed."""

        def ended() -> str | None:
            return next((end for end in ("Succeeded", "Failed") if end in self.conditions()), None)

        return self.namespace.wait(f"end of {self.name}", seconds, ended)


def settings(dataset: str, changes: Object) -> Object:
    """The run block of a small GPT-2 on this data set."""
    small = {key: value for key, value in RUN.items() if key != "name"}
    return merged(small, {"data": {"train": dataset}}, changes)


def install(
    namespace: Namespace, store: Store, image: str, run: Object, workers: tuple[int, int, int], **values: Any
) -> Run:
    """`helm install` of a run: replicas, fewest and most workers; more values of the chart by keyword."""
    replicas, smallest, largest = workers
    repository, _, tag = image.rpartition(":")
    content = {
        "run": run,
        "image": {"repository": repository, "tag": tag},
        "workers": {"replicas": replicas, "min": smallest, "max": largest, "resources": RESOURCES, **SMALL},
        "gpu": {"perWorker": None},
        "store": {"url": store.url, "secretName": SECRET},
        **values,
    }
    namespace.apply([store.s3.secret()])
    namespace.helm("install", store.run, str(CHART), values=content)
    return Run(store.run, namespace, store)
