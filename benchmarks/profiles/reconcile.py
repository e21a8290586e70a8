"""The operator's passes over 1,000 runs, in memory: three rounds of answers, which make one status interval.

A round asks each run's coordinator and makes a pass over the run; every third answer becomes a write of its status,
which its watch then tells of. The cluster is a recorded picture, kept as the JSON that an API server gives, and so are
the coordinators' answers. kopf and HTTP are left out.
"""

from __future__ import annotations

import asyncio
import json
from copy import deepcopy
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from benchmarks.profiles.table import Profile, profile
from operators.api import JobKind
from operators.apply import Applier
from operators.backends import BACKENDS
from operators.caches import Caches
from operators.coordinators import Coordinators, Outcome, Question, parse
from operators.events import Events
from operators.kube import Api
from operators.loop import Loop
from operators.metrics import Metrics
from operators.observe import Observer
from operators.observed import Coordinator
from operators.records import RunKey, node_record, pod_record, run_record
from tests.cluster.desks import document
from tests.unit.operators.api_stub import merge
from tests.unit.operators.objects import NODE, POD, PYTORCHJOB

RUNS, PODS_PER_RUN, PODS_PER_NODE = 1000, 2, 32
ROUNDS, POLL_SECONDS, STATUS_SECONDS = 3, 10.0, 30.0
_STATUS = json.dumps(document("NAME") | {"step": 0}).encode()


def measure() -> Profile:
    """A run's share of one status interval: three answers, three passes, one write."""
    with asyncio.Runner() as runner:
        clock = SimpleNamespace(now=1e6)
        with mock.patch("operators.loop.time", SimpleNamespace(monotonic=lambda: clock.now)):
            picture = runner.run(_picture())

            def interval() -> None:
                for _ in range(ROUNDS):
                    clock.now += POLL_SECONDS
                    runner.run(picture.round())

            found = profile(f"a run's 30 s among {RUNS:,}", interval, repeats=5, scale=RUNS)
            runner.run(picture.close())
    return found


class RecordedApi(Api):
    """Answers from a picture of the cluster; costs what encoding and decoding cost."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.told: list[str] = []
        self._version = 10_000

    async def patch(self, path: str, body: Any, *_: Any, **__: Any) -> Any:
        """A merge patch of a run's status; kept for its watch as well."""
        found = self.bodies[path.removesuffix("/status").rpartition("/")[2]]
        sent = json.loads(json.dumps(body))
        merge(found.setdefault("status", {}), sent["status"])
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        answer = json.dumps(found)
        self.told.append(answer)
        return json.loads(answer)


class RecordedCoordinators(Coordinators):
    """Every coordinator answers at once."""

    step = 0

    async def ask(self, question: Question) -> tuple[Outcome, Coordinator | None]:
        answer = _STATUS.replace(b"NAME", question.url.encode()).replace(b'"step": 0', b'"step": %d' % self.step)
        return Outcome.ANSWERED, parse(answer, datetime.now(UTC), question.pod_uid)


class Counted(Loop):
    """Says when each run has had its pass."""

    def __init__(self, *parts: Any, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        self.left: set[RunKey] = set()
        self.all_done = asyncio.Event()

    async def _guarded(self, key: RunKey, since: float) -> None:
        await super()._guarded(key, since)
        self.left.discard(key)
        if not self.left:
            self.all_done.set()


class Picture:
    """The operator's parts over the recorded cluster."""

    def __init__(self) -> None:
        self.api, metrics = RecordedApi(), Metrics()
        self.caches = Caches(self._changed)
        self.observer = Observer(
            self.caches, lambda _: True, namespace="", coordinator_url="{name}", silent_after_seconds=1e9
        )
        events = Events(self.api, "profile")
        applier = Applier(self.api, self.caches, events, metrics, lambda: True)
        self.loop = Counted(
            self.caches, self.observer, applier, metrics, leads=lambda: True, status_interval_seconds=STATUS_SECONDS
        )
        self.coordinators = RecordedCoordinators(1e6, self.observer.question, self._heard, lambda _: None)
        self.loop.coordinators = self.coordinators

    async def round(self) -> None:
        """Ask all, make all passes, and hear of what they wrote."""
        self.coordinators.step += 100
        self.loop.left, self.loop.all_done = set(self.caches.runs), asyncio.Event()
        running = asyncio.create_task(self.loop.run())
        for key in list(self.caches.runs):
            question = self.observer.question(key)
            assert question is not None
            self._heard(key, (await self.coordinators.ask(question))[1])
        await self.loop.all_done.wait()
        running.cancel()
        await asyncio.wait([running])
        told, self.api.told = self.api.told, []
        for line in told:
            self.caches.put(run_record(json.loads(line)))

    async def close(self) -> None:
        await self.coordinators.close()

    def _heard(self, key: RunKey, coordinator: Coordinator | None) -> None:
        self.observer.heard(key, coordinator)
        self.loop.touch(key, figures=True)

    def _changed(self, key: RunKey, _pods: bool) -> None:
        self.loop.touch(key)


async def _picture() -> Picture:
    picture = Picture()
    for number in range(RUNS * PODS_PER_RUN // PODS_PER_NODE + 1):
        node = deepcopy(NODE)
        node["metadata"] |= {"name": f"node-{number}", "uid": f"node-{number}"}
        picture.caches.put(node_record(node))
    for number in range(RUNS):
        _add_run(picture, f"run-{number:04}", number)
    picture.loop.lead(True)
    return picture


def _add_run(picture: Picture, name: str, number: int) -> None:
    job = deepcopy(PYTORCHJOB)
    job["metadata"] |= {"name": name, "uid": f"job-{name}"}
    picture.caches.put(BACKENDS[JobKind.PYTORCH_JOB].record(job))
    for index in range(PODS_PER_RUN):
        pod = deepcopy(POD)
        pod["metadata"] |= {"name": f"{name}-worker-{index}", "uid": f"pod-{name}-{index}"}
        pod["metadata"]["ownerReferences"][0] |= {"name": name, "uid": f"job-{name}"}
        pod["spec"]["nodeName"] = f"node-{(number * PODS_PER_RUN + index) // PODS_PER_NODE}"
        picture.caches.put(pod_record(pod))
    run = {
        "metadata": {
            "namespace": "runs",
            "name": name,
            "uid": f"run-{name}",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": "2026-11-22T11:06:57Z",
        },
        "spec": {
            "jobRef": {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": name},
            "elastic": {"min": 1, "max": 4},
        },
    }
    picture.api.bodies[name] = run
    picture.caches.put(run_record(run))
