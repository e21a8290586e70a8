"""What asyncio leaves to its users: enough threads, threads that are not left behind, errors without a group.

Used by `download`, `upload` and `run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any, TypeVar

Result = TypeVar("Result")


def allow_threads(count: int) -> None:
    """Let the running loop have `count` threads at a time, besides those that names are looked up in."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(count + 4, thread_name_prefix="fetch"))


async def in_thread(work: Callable[[], Result], stop: Event | None = None) -> Result:
    """Run blocking work and wait for its end, also when cancelled: it may hold a file that is about to be closed.

    `stop` is set then, for work that looks at it to end early.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


async def together(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; the first error cancels the others, which end before it is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
