"""Watches by the real kopf, on the stub of `api_stub`, which can be told to fail as an API server seldom does.

On a real API server they are seen in tests/cluster/test_operator_api.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import kopf
import pytest
from aiohttp import web

from operators import kinds, kopf_settings, watches
from operators.api import JobKind, TrainingRun
from operators.caches import Caches
from operators.kube import Api
from operators.watches import Watches
from tests.unit.operators.api_stub import ApiStub, refusal, serving
from tests.unit.operators.objects import RUN, changed

KEY = ("runs", "demo")


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiStub]:
    with serving(tmp_path) as (made, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setattr(watches, "_RESTART_SECONDS", 0.1)
        monkeypatch.setattr(watches, "_LISTED_SECONDS", 0.1)
        made.call(lambda: made.put("trainingruns", changed(RUN, "metadata", "uid", to="r")))
        yield made


class Seen:
    """Watches with their caches."""

    def __init__(self, api: Api) -> None:
        self.gone: list[Any] = []
        self.caches = Caches(lambda key, _: None if key in self.caches.runs else self.gone.append(key))
        self.watches = Watches(api, self.caches, "", lambda: None)

    def replicas(self) -> int | None:
        run = self.caches.runs.get(KEY)
        return run.spec.replicas if isinstance(run, TrainingRun) else None


@contextlib.asynccontextmanager
async def watching() -> AsyncIterator[Seen]:
    async with Api() as api:
        seen = Seen(api)
        running = asyncio.create_task(seen.watches.run())
        await until(lambda: seen.watches.synced)
        yield seen
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(found: Callable[[], Any]) -> None:
    while not found():
        await asyncio.sleep(0.01)


def open_watches(stub: ApiStub) -> bool:
    """Whether every kind's watch is open: one that is only about to be would meet a server that goes."""
    return all(stub.watches.get(kind.resource.plural) for kind in kinds.kinds())


def scale(stub: ApiStub, replicas: int) -> None:
    stub.call(lambda: stub.change("trainingruns", *KEY, {"spec": {"replicas": replicas}}))


def test_what_comes_and_goes_all_the_time_is_not_waited_for(stub: ApiStub) -> None:
    """In each list is something made just now, whose event is still on its way, and that is gone in the next."""
    lists: list[str] = []

    def churn(request: web.Request) -> web.Response | None:
        if "PartialObject" not in request.headers.get("Accept", "") or "trainingruns" not in request.path:
            return None
        lists.append(f"new-{len(lists)}")
        uids = [run["metadata"]["uid"] for run in stub.objects["trainingruns"].values()]
        items = [{"metadata": {"uid": uid, "name": uid}} for uid in (*uids, lists[-1])]
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    async def body() -> None:
        stub.before = churn
        async with watching() as seen:
            assert KEY in seen.caches.runs
            assert len(lists) > 1
            await until(lambda: open_watches(stub))

    asyncio.run(asyncio.wait_for(body(), 20))


def test_what_was_there_at_the_start_is_waited_for(stub: ApiStub, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, read = threading.Event(), kinds.run_record

    def late(body: dict[str, Any]) -> Any:
        go_on.wait()
        return read(body)

    monkeypatch.setattr(kinds, "run_record", late)

    async def body() -> None:
        async with Api() as api:
            seen = Seen(api)
            running = asyncio.create_task(seen.watches.run())
            # Looked at again and again, and the other kinds are here.
            await until(lambda: sum("trainingruns" in path for _, path in stub.seen) > 6)
            assert not seen.watches.synced
            go_on.set()
            await until(lambda: seen.watches.synced and open_watches(stub))
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    try:
        asyncio.run(asyncio.wait_for(body(), 60))
    finally:
        go_on.set()


def test_a_watch_that_ends_begins_anew(stub: ApiStub, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, ended = kopf.operator, []

    async def ends_once(**options: Any) -> None:
        if not ended:
            ended.append(options)
            raise RuntimeError("out of memory")
        await operator(**options)

    monkeypatch.setattr(kopf, "operator", ends_once)

    async def body() -> None:
        async with watching() as seen:
            scale(stub, 2)
            await until(lambda: seen.replicas() == 2)
            assert ended
            assert seen.watches.alive

    asyncio.run(asyncio.wait_for(body(), 120))


def test_a_watch_whose_thread_hangs_is_noticed(stub: ApiStub, monkeypatch: pytest.MonkeyPatch) -> None:
    hung, go_on = threading.Event(), threading.Event()
    read = kinds.run_record

    def hang(body: dict[str, Any]) -> Any:
        if "replicas" in body["spec"]:
            hung.set()
            go_on.wait()
        return read(body)

    monkeypatch.setattr(kinds, "run_record", hang)
    monkeypatch.setattr(watches, "_BEAT_SECONDS", 0.05)

    async def body() -> None:
        async with watching() as seen:
            assert seen.watches.alive
            scale(stub, 2)
            await until(hung.is_set)
            monkeypatch.setattr(watches, "_DEAD_SECONDS", 0.5)
            await until(lambda: not seen.watches.alive)
            go_on.set()
            monkeypatch.setattr(watches, "_DEAD_SECONDS", 60.0)
            await until(lambda: seen.watches.alive and seen.replicas() == 2)

    try:
        asyncio.run(asyncio.wait_for(body(), 120))
    finally:
        go_on.set()


def test_a_watch_that_is_left_hanging_is_not_waited_for(stub: ApiStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was taken by an API server on its way up or down: it is answered, and nothing ever comes."""
    monkeypatch.setattr(kopf_settings, "_SILENT_SECONDS", 0.5)

    async def body() -> None:
        async with watching() as seen:
            # What a list showed is synced before the watch after it is open.
            await until(lambda: stub.watches.get("trainingruns"))
            queues = stub.call(
                lambda: [stub.watches["trainingruns"].pop() for _ in tuple(stub.watches["trainingruns"])]
            )
            assert queues
            scale(stub, 2)
            await until(lambda: seen.replicas() == 2)
            stub.call(lambda: [queue.put_nowait(None) for queue in queues])

    asyncio.run(asyncio.wait_for(body(), 120))


def test_the_api_server_ends_watches_before_they_are_taken_for_dead() -> None:
    found = kopf_settings.kopf_settings().watching
    assert found.server_timeout is not None
    assert isinstance(found.server_timeout, int), "as the API server reads it"
    # Its bookmark comes two seconds before the end.
    assert found.server_timeout < found.inactivity_timeout < 30


def test_one_answer_of_an_api_server_that_starts_makes_no_kind_unknown(
    stub: ApiStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "_AGAIN_SECONDS", 0.2)
    asked: list[str] = []

    def once(request: web.Request) -> web.Response | None:
        if request.path != "/apis/gptrun.io/v1alpha1":
            return None
        asked.append(request.path)
        return refusal(404, "NotFound") if len(asked) == 1 else None

    async def body() -> None:
        async with watching() as seen:
            stub.call(lambda: setattr(stub, "before", once))
            await until(lambda: len(asked) >= 3)
            assert (seen.gone, seen.watches.serves(JobKind.PYTORCH_JOB)) == ([], True)
            assert KEY in seen.caches.runs
            stub.call(lambda: setattr(stub, "before", gone))
            await until(lambda: KEY not in seen.caches.runs)

    def gone(request: web.Request) -> web.Response | None:
        return refusal(404, "NotFound") if request.path.startswith("/apis/gptrun.io") else None

    asyncio.run(asyncio.wait_for(body(), 120))
