"""Renews the Lease on a thread of its own, with a loop and a client of its own.

So nothing that the operator has to do can make a renewal late, however much it is. `holds` may be asked on any thread;
starts and ends of holding are told on the loop that runs `run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from operators.kube import Api
from operators.lease import Lease

# What giving it back may take at the process's end.
_GIVE_BACK_SECONDS = 3.0


class LeaseThread:
    """A Lease, competed for beside everything else."""

    def __init__(self, namespace: str, name: str, identity: str, changed: Callable[[bool], None]) -> None:
        """changed: told of each start and end of holding it."""
        self._place = (namespace, name, identity)
        self._changed = changed
        self._lease: Lease | None = None
        self._own: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def holds(self) -> bool:
        """Whether we may act at this moment."""
        lease = self._lease
        return lease is not None and not self._over and lease.holds()

    async def run(self) -> None:
        """Compete until it is given back; raises what ended the thread before, for without it nobody acts."""
        main = asyncio.get_running_loop()
        ended: asyncio.Future[BaseException | None] = main.create_future()

        def tell(work: Callable[[], object]) -> None:
            with contextlib.suppress(RuntimeError):  # the process is ending
                main.call_soon_threadsafe(work)

        def changed(held: bool) -> None:
            tell(lambda: self._changed(held))

        def end(error: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def body() -> None:
            error: BaseException | None = None
            try:
                asyncio.run(self._compete(changed))
            except BaseException as found:  # whatever it is, the operator must not go on without
                error = found
            tell(lambda: end(error))

        threading.Thread(target=body, name="lease", daemon=True).start()
        try:
            error = await ended
        finally:
            self._stop()
        if error is not None:
            raise error

    async def give_back(self) -> None:
        """At the end: act no more, and let another one start at once."""
        held = self.holds()
        self._over = True
        if held and self._lease is not None and self._own is not None:
            work = asyncio.run_coroutine_threadsafe(self._lease.give_back(), self._own)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(work), _GIVE_BACK_SECONDS)
        self._stop()

    async def _compete(self, changed: Callable[[bool], None]) -> None:
        async with Api() as api:
            self._lease = Lease(api, *self._place, changed)
            self._task = asyncio.create_task(self._lease.run())
            self._own = asyncio.get_running_loop()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _stop(self) -> None:
        self._over = True
        if self._own is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._own.call_soon_threadsafe(self._task.cancel)
