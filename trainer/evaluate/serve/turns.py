"""Requests take turns: one is computed at a time, in a thread, so that the server goes on answering.

A request that is given up, in its turn or before it, ends at once and frees its place.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor

from trainer.evaluate.generate import Piece
from trainer.evaluate.serve.errors import ApiError

RETRY_SECONDS = 1


class Turns:
    """Runs iterators of pieces, one after another; `waiting` of them at most wait for their turn."""

    def __init__(self, waiting: int) -> None:
        self._most_waiting = waiting
        self.waiting = 0
        """Requests that wait for their turn."""
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generation")
        self._stopped = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether a text is being made."""
        return self._turn.locked()

    def stop(self) -> None:
        """End the running iterator and refuse all others."""
        self._stopped.set()

    def close(self) -> None:
        """End the thread, after `stop` and when no request is left."""
        self._thread.shutdown()

    async def run(self, pieces: Iterator[Piece]) -> AsyncGenerator[Piece]:
        """The pieces, once it is this request's turn. ApiError with 429 where too many wait, 503 after `stop`.

        Whoever does not take all of them closes this iterator; the thread has let go of `pieces` when that returns.
        """
        if self.busy and self.waiting >= self._most_waiting:
            raise ApiError(429, f"{self.waiting} requests wait already; try again in a moment", code="queue_full")
        self.waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self.waiting -= 1
        try:
            async for piece in self._in_thread(pieces):
                yield piece
        finally:
            self._turn.release()

    async def _in_thread(self, pieces: Iterator[Piece]) -> AsyncGenerator[Piece]:
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[Piece | None] = asyncio.Queue()
        given_up = threading.Event()

        def work() -> bool:
            """Whether all pieces were made."""
            try:
                for piece in pieces:
                    if given_up.is_set() or self._stopped.is_set():
                        return False
                    loop.call_soon_threadsafe(made.put_nowait, piece)
                return True
            finally:
                loop.call_soon_threadsafe(made.put_nowait, None)

        working = loop.run_in_executor(self._thread, work)
        try:
            while (piece := await made.get()) is not None:
                yield piece
        finally:
            given_up.set()
            await asyncio.wait([working])
        if not working.result():
            raise ApiError(503, "the server is stopping", code="stopping")
