"""The Lease beside work: renewed however long the operator's loop is busy, and lost at once for all of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from operators.lease import DURATION_SECONDS
from operators.lease_thread import LeaseThread
from tests.unit.operators.api_stub import ApiStub, refusal, serving


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiStub]:
    with serving(tmp_path) as (made, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield made


async def until(found: Callable[[], Any]) -> None:
    while not found():
        await asyncio.sleep(0.01)


def spec(stub: ApiStub) -> dict[str, Any]:
    found: dict[str, Any] = stub.call(lambda: dict(stub.objects["leases"]["default", "l"]["spec"]))
    return found


def test_it_is_renewed_while_the_loop_is_busy(stub: ApiStub) -> None:
    told: list[bool] = []

    async def body() -> None:
        lease = LeaseThread("default", "l", "a", told.append)
        running = asyncio.create_task(lease.run())
        await until(lease.holds)
        first = spec(stub)["renewTime"]
        time.sleep(DURATION_SECONDS + 1)
        assert lease.holds()
        assert spec(stub)["renewTime"] > first
        await until(lambda: told)
        await lease.give_back()
        assert not lease.holds()
        await running
        assert spec(stub)["holderIdentity"] == ""
        assert told[0] is True

    asyncio.run(asyncio.wait_for(body(), 60))


def test_one_that_cannot_renew_says_so_and_one_of_two_takes_it(stub: ApiStub) -> None:
    async def body() -> None:
        told: dict[str, list[bool]] = {"a": [], "b": []}
        first = LeaseThread("default", "l", "a", told["a"].append)
        tasks = [asyncio.create_task(first.run())]
        await until(lambda: told["a"])
        second = LeaseThread("default", "l", "b", told["b"].append)
        tasks.append(asyncio.create_task(second.run()))

        def refuse(request: web.Request) -> web.Response | None:
            return refusal(503, "Away") if request.method == "PATCH" else None

        stub.call(lambda: setattr(stub, "before", refuse))
        await until(lambda: told["a"] == [True, False])
        stub.call(lambda: setattr(stub, "before", lambda _: None))
        await until(lambda: first.holds() or second.holds())
        assert not (first.holds() and second.holds())
        for lease in (first, second):
            await lease.give_back()
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(body(), 60))
