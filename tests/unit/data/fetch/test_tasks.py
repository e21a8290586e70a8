"""Threads are waited for, and the first error is the one that is raised."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest

from trainer.data.fetch.tasks import allow_threads, in_thread, together


def test_a_cancelled_call_waits_for_its_thread_and_tells_it() -> None:
    begun, stop, ended = Event(), Event(), []

    def work() -> None:
        begun.set()
        stop.wait(20)
        ended.append("work")

    async def main() -> None:
        task = asyncio.ensure_future(in_thread(work, stop))
        await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ended.append("cancelled")

    asyncio.run(main())
    assert ended == ["work", "cancelled"]


def test_results_and_errors_come_through() -> None:
    def fail() -> None:
        raise KeyError("x")

    async def main() -> int:
        allow_threads(1)
        with pytest.raises(KeyError):
            await in_thread(fail)
        return await in_thread(lambda: 7)

    assert asyncio.run(main()) == 7


def test_the_first_error_cancels_the_others_and_comes_alone() -> None:
    ended = []

    async def fail() -> None:
        raise LookupError("first")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(LookupError, match="first"):
        asyncio.run(together([wait(), fail()]))
    assert ended == ["cancelled"]
