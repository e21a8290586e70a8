"""What the API server refuses is said in the run's status, and no longer than it is true: passes over `api_stub`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from operators.api import Condition, JobKind, TrainingRun
from operators.apply import Applier
from operators.backends import BACKENDS
from operators.caches import Caches
from operators.events import Events
from operators.kube import Api, ApiError, Forbidden
from operators.loop import Loop
from operators.metrics import Metrics
from operators.observe import Observer
from operators.records import node_record, pod_record, run_record
from tests.unit.operators.api_stub import ApiStub, refusal, serving
from tests.unit.operators.objects import NODE, POD, PYTORCHJOB, RUN, changed

KEY = ("runs", "demo")
NO_RIGHT = 'pytorchjobs "demo" is forbidden: User "operator" cannot patch resource "pytorchjobs" in API group "x"'
OUT_OF_BOUNDS = "demo: 4 workers, workers.max is 3"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiStub]:
    with serving(tmp_path) as (made, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        made.call(lambda: made.put("trainingruns", changed(RUN, "spec", "replicas", to=4)))
        made.call(lambda: made.put("pytorchjobs", changed(PYTORCHJOB, "spec", "runPolicy", to={})))
        yield made


class Passes:
    """The operator's passes over one run, made by hand; news are taken in before each."""

    def __init__(self, stub: ApiStub, api: Api) -> None:
        self._stub = stub
        self._caches = Caches(lambda *_: None)
        metrics, self.events = Metrics(), Events(api, "me")
        observer = Observer(self._caches, lambda _: True, namespace="", coordinator_url="", silent_after_seconds=1)
        applier = Applier(api, self._caches, self.events, metrics, lambda: True)
        self._loop = Loop(self._caches, observer, applier, metrics, leads=lambda: True, status_interval_seconds=3600)

    def lose_a_node(self) -> None:
        """One on which a pod is to end, long ago."""
        self._caches.put(pod_record(changed(POD, "metadata", "deletionTimestamp", to="2026-11-22T11:10:00Z")))
        ready = {"lastTransitionTime": "2026-11-22T11:09:00Z", "status": "Unknown", "type": "Ready"}
        self._caches.put(node_record(changed(NODE, "status", "conditions", to=[ready])))

    async def once(self) -> tuple[Condition, float]:
        """What Healthy says then, and seconds until the next pass."""
        record = BACKENDS[JobKind.PYTORCH_JOB].record
        self._caches.put(run_record(self._stub.objects["trainingruns"][KEY]))
        self._caches.put(record(self._stub.objects["pytorchjobs"][KEY]))
        again = await self._loop._pass(KEY, time.monotonic())
        run = run_record(self._stub.objects["trainingruns"][KEY])
        assert isinstance(run, TrainingRun)
        return next(one for one in run.status.conditions if one.type == "Healthy"), again


def with_passes(stub: ApiStub, body: Callable[[Passes], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with Api() as api:
            passes = Passes(stub, api)
            await body(passes)
            await passes.events.settle()

    asyncio.run(asyncio.wait_for(run(), 60))


def refuse_jobs(stub: ApiStub, status: int, message: str) -> None:
    def before(request: web.Request) -> web.Response | None:
        changes_job = request.method == "PATCH" and "pytorchjobs" in request.path
        return refusal(status, message) if changes_job else None

    stub.before = before


def workers(stub: ApiStub) -> int:
    spec = stub.objects["pytorchjobs"][KEY]["spec"]
    return int(spec["pytorchReplicaSpecs"]["Worker"]["replicas"])


REFUSALS = {"Forbidden": (403, NO_RIGHT), "Refused": (422, OUT_OF_BOUNDS)}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_is_said_at_once_and_goes_when_it_heals(stub: ApiStub, reason: str) -> None:
    status, message = REFUSALS[reason]

    async def body(passes: Passes) -> None:
        refuse_jobs(stub, status, message)
        _, soon = await passes.once()
        assert soon <= 1
        said, later = await passes.once()
        assert (said.status, said.reason) == ("False", reason)
        assert message in said.message
        assert later == 30, "asked again, but not all the time"
        again, _ = await passes.once()
        assert again == said, "nothing to write as long as nothing changes"
        stub.before = lambda _: None
        await passes.once()
        assert workers(stub) == 4
        healed, _ = await passes.once()
        assert (healed.status, healed.reason) != ("False", reason)

    with_passes(stub, body)


def test_a_refusal_goes_with_the_wish(stub: ApiStub) -> None:
    async def body(passes: Passes) -> None:
        refuse_jobs(stub, *REFUSALS["Refused"])
        await passes.once()
        assert (await passes.once())[0].reason == "Refused"
        stub.call(lambda: stub.change("trainingruns", *KEY, {"spec": {"replicas": workers(stub)}}))
        assert (await passes.once())[0].reason != "Refused"
        # And it is not remembered: the next wish is tried before anything is said.
        stub.before = lambda _: None
        stub.call(lambda: stub.change("trainingruns", *KEY, {"spec": {"replicas": 4}}))
        assert (await passes.once())[0].reason != "Refused"
        assert workers(stub) == 4

    with_passes(stub, body)


def test_what_is_not_refused_is_done(stub: ApiStub) -> None:
    async def body(passes: Passes) -> None:
        stub.before = lambda request: refusal(*REFUSALS["Forbidden"]) if request.method == "DELETE" else None
        passes.lose_a_node()
        await passes.once()
        assert workers(stub) == 4
        said, _ = await passes.once()
        assert said.reason == "Forbidden"

    with_passes(stub, body)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (NO_RIGHT, Forbidden),
        ('admission webhook "w" denied the request: cannot do that', ApiError),
        ('pods "x" is forbidden: exceeded quota: gpus', ApiError),
    ],
)
def test_a_right_that_is_missing_is_told_from_other_refusals(stub: ApiStub, message: str, kind: type[ApiError]) -> None:
    async def ask() -> None:
        stub.before = lambda _: refusal(403, message)
        async with Api() as api:
            await api.get("/version")

    with pytest.raises(ApiError) as refused:
        asyncio.run(ask())
    assert type(refused.value) is kind
