"""Runs a coordinator: as a process of its own (`gpt-run coordinator`), or in a thread of a launcher that is alone."""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import signal
import threading

from trainer.addresses import EVERYWHERE
from trainer.elastic.coordinator import Coordinator
from trainer.elastic.pod import collect_orphans
from trainer.elastic.status import RunStatus, StatusServer
from trainer.errors import UserError
from trainer.metrics.console import configure_logging

HOST = "127.0.0.1"
HTTP_PORT = 29480
_PORTS_TRIED = 100
# A connection for each launcher, and some for readers of its pages.
_OPEN_FILES = 65536


def serve_coordinator(*, port: int, http_port: int, run: str | None) -> None:
    """Serve until SIGTERM or Ctrl+C. UserError if a port is taken: launchers and probes would look for it in vain."""
    configure_logging(rank=0)
    allow_open_files()
    asyncio.run(_serve_until_told(port, http_port, run))


def allow_open_files() -> None:
    """Raise this process's limit, which is 1,024 where nobody cared, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve_until_told(port: int, http_port: int, run: str | None) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    coordinator = Coordinator(run=run)
    # Launchers and probes come from other machines.
    await coordinator.start(EVERYWHERE, port)
    server = StatusServer(coordinator.status, EVERYWHERE, http_port)
    print(f"coordinator: launchers at port {port}, http://localhost:{http_port}/status", flush=True)
    deciding = asyncio.create_task(coordinator.run())
    deciding.add_done_callback(lambda _: told.set())
    await told.wait()
    failed = deciding.done()
    deciding.cancel()
    await coordinator.close()
    server.close()
    collect_orphans()
    if failed:
        # One that answers probes and decides nothing would hold the run up for good; another takes its place.
        await deciding


class LocalCoordinator:
    """A coordinator for this machine's launcher alone; a taken port is passed over for the next free one."""

    def __init__(self, run: str) -> None:
        # Nobody else can have a round, and a launcher that Ctrl+Z stopped is not lost: its coordinator stood still too.
        self._coordinator = Coordinator(run=run, hold_seconds=0.0, silent_seconds=math.inf)
        self._server = first_free_server(self._coordinator.status)
        self.http_port = self._server.port
        self.port = 0
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._deciding: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._serve, name="coordinator", daemon=True)
        self._thread.start()
        self._listening.wait()

    def close(self) -> None:
        """Stop serving."""
        self._server.close()
        if self._deciding is not None:
            self._loop.call_soon_threadsafe(self._deciding.cancel)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        # The launcher is told the port: it need not be the usual one.
        self.port = self._loop.run_until_complete(self._coordinator.start(HOST, 0))
        self._deciding = self._loop.create_task(self._coordinator.run())
        self._listening.set()
        try:
            self._loop.run_until_complete(self._deciding)
        except asyncio.CancelledError:
            self._loop.run_until_complete(self._coordinator.close())
        finally:
            self._loop.close()


def first_free_server(status: RunStatus) -> StatusServer:
    """Serve a laptop's run at the usual port or the next free one."""
    for port in range(HTTP_PORT, HTTP_PORT + _PORTS_TRIED):
        try:
            return StatusServer(status, HOST, port)
        except UserError:
            continue
    return StatusServer(status, HOST, 0)
