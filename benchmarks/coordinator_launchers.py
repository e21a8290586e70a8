"""Simulated launchers of coordinator_load.py: real connections and messages, without workers and without machines.

Some hundred of them share a process. Each speaks to the coordinator through the launcher's own `Link`, at the
launcher's own beat, and answers as a launcher does whose workers die the moment they are told to.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from pydantic import BaseModel

from trainer.elastic import messages
from trainer.elastic.launcher import BEAT_SECONDS
from trainer.elastic.link import Link
from trainer.elastic.messages import Beat, Ended, Hello, Ready, Start, StopWorkers
from trainer.elastic.rounds import End
from trainer.version import VERSION

# As long as a launcher imports torch before it is ready.
WARM_UP_SECONDS = 3.0
SLOTS = 8
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Started:
    """A launcher heard of a round."""

    number: int
    world_size: int
    ready_at: float
    """When it said that it waits for this round; monotonic clock of this machine, as `at`."""
    at: float


class SimulatedLauncher:
    """One machine of eight GPUs that trains for ever."""

    def __init__(self, name: str, port: int, nodes: tuple[int, int], *, joins_at: float) -> None:
        self.link = Link("127.0.0.1", port, self._introduction)
        self.told = 0
        """Messages heard."""
        self._name = name
        self._nodes = nodes
        self._joins_at = joins_at
        self._beat_at = joins_at
        self._start: Start | None = None
        self._ready: Ready | None = None
        self._ready_at = 0.0
        self._step = 0

    def look(self, now: float) -> list[Started]:
        """What a launcher does twenty times a second."""
        if now < self._joins_at:
            return []
        self.link.keep_up(now)
        if self._start is None and self._ready is None and now >= self._joins_at + WARM_UP_SECONDS:
            self._say_ready()
        if now >= self._beat_at:
            self._beat_at = now + BEAT_SECONDS
            self._step += self._start is not None
            status = {"phase": "training", "step": self._step, "loss": 2.5} if self._leads else None
            self.link.send(Beat(step=self._step, took_step=self._step > 0, status=status))
        return self.hear(now)

    def hear(self, now: float) -> list[Started]:
        """Take in messages; rounds that begin."""
        started = []
        for message in self.link.receive():
            self.told += 1
            if isinstance(message, Start):
                self._start, self._ready = message, None
                started.append(Started(message.number, message.world_size, self._ready_at, now))
            elif isinstance(message, StopWorkers):
                self._start = None
                self.link.send(Ended(round=message.round, end=End.STOPPED))
                self._say_ready()
        return started

    @property
    def _leads(self) -> bool:
        return self._start is not None and self._start.first_rank == 0

    def _say_ready(self) -> None:
        self._ready, self._ready_at = Ready(endpoint="127.0.0.1:1"), time.monotonic()
        self.link.send(self._ready)

    def _introduction(self) -> list[BaseModel]:
        smallest, largest = self._nodes
        hello = Hello(
            protocol=messages.PROTOCOL,
            run="big",
            version=VERSION,
            config_sha256="0" * 64,
            id=self._name,
            host=f"node-{self._name}",
            slots=SLOTS,
            min_nodes=smallest,
            max_nodes=largest,
            budget_failures=3,
            budget_window_seconds=3600.0,
            step=self._step,
            claim=self._start.claim(took_step=self._step > 0) if self._start is not None else None,
        )
        return [hello, *([self._ready] if self._ready is not None else [])]


class _Crowd:
    """The launchers of one process, and which of their connections are watched."""

    def __init__(self, launchers: dict[str, SimulatedLauncher], control: Connection) -> None:
        self.launchers = launchers
        self._watched: dict[str, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)

    def hear(self, seconds: float) -> tuple[list[Started], bool]:
        """What launchers hear until the time is over, and whether there is a word for this process."""
        found: list[Started] = []
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.data is None:
                    return found, True
                found += self.launchers[key.data].hear(time.monotonic())
        return found, False

    def look(self) -> list[Started]:
        """What each launcher does once in a while."""
        now = time.monotonic()
        found = [started for launcher in self.launchers.values() for started in launcher.look(now)]
        now_open = {name: one for name, launcher in self.launchers.items() for one in launcher.link.waitable()}
        stale = [name for name, one in self._watched.items() if now_open.get(name) is not one]
        # First: a descriptor that was closed may have become another launcher's.
        for name in stale:
            self._selector.unregister(self._watched.pop(name))
        for name, one in now_open.items():
            if name not in self._watched:
                self._watched[name] = one
                self._selector.register(one, selectors.EVENT_READ, name)
        return found


def serve(control: Connection, names: list[str], port: int, nodes: tuple[int, int], join_seconds: list[float]) -> None:
    """Keep launchers alive in this process until told None. Told a name, the launcher of that name dies.

    Sends each `Started`, and (name, messages heard) of one that died.
    """
    began = time.monotonic()
    launchers = {
        name: SimulatedLauncher(name, port, nodes, joins_at=began + seconds)
        for name, seconds in zip(names, join_seconds, strict=True)
    }
    crowd = _Crowd(launchers, control)
    while True:
        found, word = crowd.hear(_LOOK_SECONDS)
        if word:
            name = control.recv()
            if name is None:
                return
            died = launchers.pop(name)
            died.link.close()
            control.send((name, died.told))
        for started in [*found, *crowd.look()]:
            control.send(started)
