"""What waits for a pass, and until when. Passes themselves are seen in tests/cluster/test_operator_api.py."""

from __future__ import annotations

import asyncio
from collections import Counter

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
        observer = Observer(caches, lambda kind: True, coordinator_url="", silent_after_seconds=1)
        applier = Applier(api, caches, Events(api, "me"), metrics, leads.is_set)
        super().__init__(caches, observer, applier, metrics, leads=leads.is_set, status_interval_seconds=30)
        self.passes: Counter[RunKey] = Counter()
        self.began, self.may_end = asyncio.Event(), asyncio.Event()

    async def _guarded(self, key: RunKey, since: float) -> None:
        self.passes[key] += 1
        if key == B:
            self.began.set()
            await self.may_end.wait()


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
        loop.lead()
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
