"""What waits for a pass, and until when. Passes themselves are seen in tests/cluster/test_operator_api.py."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest

from operators.apply import Applier
from operators.caches import Caches
from operators.events import Events
from operators.kube import Api
from operators.loop import Loop
from operators.metrics import Metrics
from operators.observe import Observer
from operators.records import RunKey

A, B = ("runs", "a"), ("runs", "b")


class Noted(Loop):
    """Notes its passes instead of making them; one of B is in the way of another until it may end."""

    def __init__(self, leads: asyncio.Event) -> None:
        caches, metrics, api = Caches(lambda key, pods: None), Metrics(), Api()
        observer = Observer(caches, lambda kind: True, namespace="", coordinator_url="", silent_after_seconds=1)
        applier = Applier(api, caches, Events(api, "me"), metrics, leads.is_set)
        super().__init__(caches, observer, applier, metrics, leads=leads.is_set, status_interval_seconds=30)
        self.passes: Counter[RunKey] = Counter()
        self.ended: Counter[RunKey] = Counter()
        self.order: list[RunKey] = []
        self.began, self.may_end = asyncio.Event(), asyncio.Event()

    async def _guarded(self, key: RunKey, since: float) -> None:
        self.passes[key] += 1
        self.order.append(key)
        if key == B:
            self.began.set()
            await self.may_end.wait()
        self.ended[key] += 1


def test_what_is_new_while_another_leads_waits_and_is_looked_at_once() -> None:
    async def body() -> Counter[RunKey]:
        leads = asyncio.Event()
        loop = Noted(leads)
        running = asyncio.create_task(loop.run())
        for _ in range(3):
            loop.touch(A, figures=True)
            loop.touch(A)
            loop.touch(B, figures=True)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not loop.passes
        leads.set()
        loop.lead(True)
        await loop.began.wait()
        loop.touch(B)  # one more, however much it is
        loop.touch(B, figures=True)
        for _ in range(20):
            await asyncio.sleep(0)
        before = loop.passes.copy()
        loop.may_end.set()
        while loop.passes[B] == before[B]:
            await asyncio.sleep(0)
        running.cancel()
        assert before == {A: 1, B: 1}
        return loop.passes

    assert asyncio.run(asyncio.wait_for(body(), 30)) == {A: 1, B: 2}


def test_what_is_new_goes_first_when_the_lease_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs wait then; what the holder before has seen as well is in nobody's way."""
    clock = [1000.0]
    monkeypatch.setattr("operators.loop.time", SimpleNamespace(monotonic=lambda: clock[0]))
    old, recent, newest = [
        [("runs", f"{name}-{index}") for index in range(number)]
        for name, number in (("old", 400), ("recent", 40), ("newest", 40))
    ]

    async def body() -> list[RunKey]:
        leads = asyncio.Event()
        loop = Noted(leads)
        for keys in (old, recent, newest):
            clock[0] += 25
            for key in keys:
                loop.touch(key)
            for key in old:
                loop.touch(key, figures=True)
        leads.set()
        loop.lead(True)
        loop.touch(A)
        running = asyncio.create_task(loop.run())
        while len(loop.order) < 481:
            await asyncio.sleep(0)
        running.cancel()
        return loop.order

    order = asyncio.run(asyncio.wait_for(body(), 30))
    place = {key: index for index, key in enumerate(order)}
    assert max(place[key] for key in newest) < min(place[key] for key in recent)
    # Two queues, side by side: what is old takes every second place at most.
    assert place[A] <= 2 * (len(newest) + len(recent)) + 1


def test_what_is_going_on_when_the_lease_goes_is_broken_off_and_done_again() -> None:
    async def body() -> None:
        leads = asyncio.Event()
        leads.set()
        loop = Noted(leads)
        loop.lead(True)
        running = asyncio.create_task(loop.run())
        loop.touch(B)
        await loop.began.wait()
        leads.clear()
        loop.lead(False)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (loop.passes[B], loop.ended[B]) == (1, 0), "broken off, wherever it was"
        leads.set()
        loop.may_end.set()
        loop.lead(True)
        while not loop.ended[B]:
            await asyncio.sleep(0.01)
        assert loop.passes[B] == 2
        running.cancel()

    asyncio.run(asyncio.wait_for(body(), 30))
