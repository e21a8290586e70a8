"""Runs on the cluster: installed from the chart, watched through the coordinator, scaled by kubectl."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.cluster.client import Namespace, Object
from tests.cluster.store import SECRET, Store, figures
from tests.integration.training import RUN, merged

CHART = Path(__file__).parents[2] / "charts" / "gpt-run"
LABEL = "gptrun.io/component"
# A few thousand parameters on a shared machine: what a pod needs is torch's own memory.
RESOURCES = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}}
# Machines that run these tests are slow and shared: a limit says that something is stuck, not how fast it should be.
WAIT_SECONDS = 300
HOST = "kubernetes.io/hostname"
# Goes on until the test is over.
LONG = {"steps": 100_000, "checkpoint": {"every_steps": 1000}}
# The same, saved so often that little is lost.
SAVED = {"steps": 100_000, "checkpoint": {"every_seconds": 5}}
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

    def containers(self) -> dict[str, tuple[str, int]]:
        """Name of each worker pod -> what a restart would change: its uid, and how often its container began again."""
        return {
            pod["metadata"]["name"]: (
                pod["metadata"]["uid"],
                sum(status["restartCount"] for status in pod["status"].get("containerStatuses", [])),
            )
            for pod in self.workers()
        }

    def printed(self) -> list[Object]:
        """Figures of each step in the logs of the workers that can be asked, in order: the store lacks the newest."""
        names = [pod["metadata"]["name"] for pod in self.workers()]
        logs = [self.namespace.log(name, *options) for name in names for options in ((), ("--previous",))]
        return sorted(figures(line for log in logs for line in log.splitlines()), key=lambda record: record["time"])

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

    def attempt(self) -> int:
        """Number of the attempt that trains."""
        return int(self.told("attempt").removeprefix("a"))

    def told(self, field: str) -> Any:
        """A field of /status, once it has a value: a coordinator that has just begun knows little."""
        return self.namespace.wait(f"`{field}` in /status", 60, lambda: self.status().get(field))

    def upgrade(self, *options: str) -> None:
        """`helm upgrade`, as the notes have it."""
        self.namespace.helm("upgrade", self.name, str(CHART), "--reset-then-reuse-values", *options)

    def suspend(self) -> None:
        """Suspend as the notes have it, to the end of the last worker."""
        self._set_suspend(value=True)
        self.wait_for_no_workers()

    def resume(self) -> None:
        """End the suspension."""
        self._set_suspend(value=False)

    def remove(self) -> None:
        """Delete the job; its workers save, and their logs are in the store."""
        self.namespace.kubectl("delete", f"pytorchjob/{self.name}")
        self.wait_for_no_workers()

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
        self._settle()

    def wait_for_attempt(self, attempt: int, size: int | None = None, seconds: float = WAIT_SECONDS) -> None:
        """Wait until an attempt or a later one trains, with so many ranks."""

        def trains() -> bool:
            status = self.status()
            reached = (status.get("attempt") or "") >= f"a{attempt:04}" and status.get("phase") == "training"
            return reached and size in (None, status.get("world_size"))

        self.namespace.wait(f"attempt {attempt}", seconds, trains)
        self._settle()

    def wait_for_no_workers(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until no worker pod is there."""
        self.namespace.wait("end of the workers", seconds, lambda: not self.workers())

    def wait_for_end(self, seconds: float = 600) -> str:
        """Wait for the job's end: Succeeded or Failed."""

        def ended() -> str | None:
            return next((end for end in ("Succeeded", "Failed") if end in self.conditions()), None)

        return self.namespace.wait(f"end of {self.name}", seconds, ended)

    def _settle(self) -> None:
        """Wait until every rank has taken a step: one that is told to stop in its first ends without a save."""
        self.wait_for_step(self.told("step") + 2)

    def _set_suspend(self, *, value: bool) -> None:
        patch = json.dumps({"spec": {"runPolicy": {"suspend": value}}})
        self.namespace.kubectl("patch", f"pytorchjob/{self.name}", "--type=merge", "--patch", patch)


def settings(dataset: str, changes: Object) -> Object:
    """The run block of a small GPT-2 on this data set."""
    small = {key: value for key, value in RUN.items() if key != "name"}
    return merged(small, {"data": {"train": dataset}}, changes)


def install(
    namespace: Namespace, store: Store, image: str, run: Object, workers: tuple[int, int, int], /, **values: Any
) -> Run:
    """`helm install` of a run; workers: replicas, fewest, most. Values of the chart by keyword replace ours."""
    replicas, smallest, largest = workers
    repository, _, tag = image.rpartition(":")
    content = {
        "run": run,
        "image": {"repository": repository, "tag": tag},
        "workers": {"replicas": replicas, "min": smallest, "max": largest, "resources": RESOURCES, **SMALL},
        "gpu": {"perWorker": None},
        "store": {"url": store.url, "secretName": SECRET},
    }
    namespace.apply([store.s3.secret()])
    namespace.helm("install", store.run, str(CHART), values=merged(content, values))
    return Run(store.run, namespace, store)


def assert_nothing_lost(run: Run, attempts: int) -> None:
    """The attempts followed each other without a step done again, and none of their ends counted as a failure."""
    claims = run.store.claims()
    names = [f"a{claim['attempt']:04}" for claim in claims]
    assert len(names) >= attempts
    assert not [claim for claim in claims if claim["previous_end"] and claim["previous_end"]["counted"]]
    run.namespace.wait("log of the last attempt", 60, lambda: run.store.records(names[attempts - 1]))
    for earlier, later in pairwise(names[:attempts]):
        pause, again = run.store.resumed(earlier, later)
        print(f"{earlier} -> {later}: {pause:.1f} s without a step, {again} steps done again")
        assert again == 0
