"""Processes forked from one that has imported everything: a worker is there in milliseconds instead of seconds.

The launcher keeps one fork server for its whole life. Whatever is forked dies with it: the fork server with the
launcher, its children with the fork server, by the kernel's parent-death signal.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from typing import Any

from trainer.elastic.signals import LAUNCHER_PID_VARIABLE, die_with_launcher, name_process


class Forks:
    """The fork server of this process."""

    def __init__(self, preload: str, *, processes: int) -> None:
        """Start the fork server. preload: the module that imports what children need; processes: how many at a time
        share the cores, of which each gets its part unless OMP_NUM_THREADS says otherwise."""
        self._first_code: int | None = None
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["trainer.elastic.fork_server", preload])
        os.environ[LAUNCHER_PID_VARIABLE] = str(os.getpid())
        # Read when libraries are loaded, so it has to be there before the fork server is.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))

        # By this thread: the kernel ends the fork server when the thread that started it does.
        forkserver.ensure_running()
        self._warming = threading.Thread(target=self._wait_until_warm, name="warm-up", daemon=True)
        self._warming.start()

    @property
    def warm(self) -> bool:
        """Whether everything is imported, so that forking takes milliseconds. RuntimeError if nothing can be forked."""
        if self._warming.is_alive():
            return False
        if self._first_code != 0:
            raise RuntimeError(f"a forked process ended with {self._first_code}")
        return True

    def _wait_until_warm(self) -> None:
        process = self.start("gpt-run:warm", "trainer.elastic.forks:do_nothing", {})
        process.join()
        self._first_code = process.exitcode

    def pipe(self) -> tuple[Connection, Connection]:
        """(to read from, to write to)."""
        return self._context.Pipe(duplex=False)

    def start(self, name: str, function: str, environment: Mapping[str, str], *arguments: Any) -> ForkServerProcess:
        """Fork a process that calls `module:function` with these arguments and exits with what it returns."""
        process = self._context.Process(target=_call, args=(name, function, dict(environment), arguments))
        process.start()
        return process


def do_nothing() -> int:
    """Show that forking works."""
    return 0


def kill(process: BaseProcess) -> None:
    """SIGKILL it if it lives; a fork server that is gone has taken its children with it."""
    if process.is_alive() and process.pid is not None:
        process.kill()


def _call(name: str, function: str, environment: dict[str, str], arguments: tuple[Any, ...]) -> None:
    die_with_launcher()
    name_process(name)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.environ.update(environment)
    module, _, attribute = function.partition(":")
    raise SystemExit(getattr(importlib.import_module(module), attribute)(*arguments))
