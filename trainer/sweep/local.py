"""Runs of a sweep on this machine, one after another or a few at a time: each is `gpt-run train` in its own process.

A run's file and what it prints are kept in the sweep's folder, so any of them can be looked at or gone on with by hand.
The processes have sessions of their own: Ctrl+C reaches this process alone, which passes it on once, so that all save.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainer.config_file import run_config_yaml
from trainer.durable import write_atomically
from trainer.errors import EXIT_FINISHED, EXIT_PREEMPTED
from trainer.storage_errors import may_heal
from trainer.sweep.points import Point

_LOOK_SECONDS = 0.2
_ENOUGH_SECONDS = 2.0
"""Between two looks at whether a run has gone far enough."""
_TELL_SECONDS = 30.0
_TAIL_BYTES = 4000
_TAIL_LINES = 3


@dataclass(frozen=True)
class Ended:
    """How the process of a run ended."""

    exit_code: int
    message: str = ""
    """The last lines that it printed, where it failed."""

    @property
    def failed(self) -> bool:
        """Neither finished nor stopped after a save."""
        return self.exit_code not in (EXIT_FINISHED, EXIT_PREEMPTED)


class StopSwitch(Protocol):
    """A wish to stop; `trainer.elastic.signals.StopSignals` is one."""

    requested: bool
    insisted: bool
    """Stop at once, without a save."""

    def arm(self) -> None:
        """From now on there is something to save."""


@dataclass
class _Child:
    point: Point
    popen: subprocess.Popen[bytes]
    looked_at: float
    told_at: float
    told: str = ""
    stops: int = 0
    """SIGINTs that it was sent."""


class LocalRunner:
    """Trains points, `parallel` at a time."""

    def __init__(
        self, folder: Path, *, parallel: int, nproc: int, signals: StopSwitch, say: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._parallel = parallel
        self._nproc = nproc
        self._signals = signals
        self._say = say

    def train(self, points: Sequence[Point], enough: Callable[[Point], bool] | None = None) -> dict[str, Ended]:
        """Train each point to its end, or until `enough` holds: then it saves and stops. Those not begun are left out.

        Returns after a stop was asked for as soon as all that ran have saved.
        """
        waiting = deque(points)
        running: list[_Child] = []
        ended: dict[str, Ended] = {}
        try:
            while running or (waiting and not self._signals.requested):
                while waiting and len(running) < self._parallel and not self._signals.requested:
                    running.append(self._start(waiting.popleft(), len(points) - len(waiting), len(points)))
                time.sleep(_LOOK_SECONDS)
                for child in list(running):
                    if (code := child.popen.poll()) is None:
                        self._attend(child, enough)
                        continue
                    running.remove(child)
                    ended[child.point.name] = self._end(child, code)
        finally:
            for child in running:  # only an error of our own leaves any
                child.popen.kill()
                child.popen.wait()
        return ended

    def _start(self, point: Point, number: int, total: int) -> _Child:
        file, log = self._folder / f"{point.name}.yaml", self._log(point)
        write_atomically(file, run_config_yaml(point.config).encode(), durable=False)
        command = [sys.executable, "-m", "trainer", "train", str(file), "--nproc", str(self._nproc)]
        # The run file has it all.
        environment = {name: value for name, value in os.environ.items() if name != "GPTRUN_SET"}
        # At once, not when the process ends: people look at the file while the run goes on.
        environment["PYTHONUNBUFFERED"] = "1"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._say(f"{point.name} ({point.words}) {number} of {total}: started, log in {log}")
        now = time.monotonic()
        return _Child(point, popen, now, now)

    def _attend(self, child: _Child, enough: Callable[[Point], bool] | None) -> None:
        """Pass a stop on, stop what has gone far enough, tell how far it is."""
        now = time.monotonic()
        wanted = self._signals.requested + self._signals.insisted
        if enough is not None and not wanted and not child.stops and now - child.looked_at > _ENOUGH_SECONDS:
            wanted = int(_holds(enough, child.point))
            child.looked_at = time.monotonic()
        if child.stops < wanted:
            child.stops += 1
            child.popen.send_signal(signal.SIGINT)  # the second one ends it without a save
        if now - child.told_at > _TELL_SECONDS:
            child.told_at = now
            steps = [line for line in self._tail(child.point) if line.startswith("step ")]
            if steps and steps[-1] != child.told:
                child.told = steps[-1]
                self._say(f"{child.point.name}: {child.told}")

    def _end(self, child: _Child, code: int) -> Ended:
        name = child.point.name
        if code == EXIT_FINISHED:
            self._say(f"{name}: finished")
            return Ended(code)
        if code == EXIT_PREEMPTED:
            self._say(f"{name}: saved and stopped")
            return Ended(code)
        end = Ended(code, " / ".join(self._tail(child.point)[-_TAIL_LINES:]))
        self._say(f"{name}: failed with {code}: {end.message}")
        return end

    def _log(self, point: Point) -> Path:
        return self._folder / f"{point.name}.log"

    def _tail(self, point: Point) -> list[str]:
        """The last lines that a run printed."""
        with self._log(point).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]


def _holds(enough: Callable[[Point], bool], point: Point) -> bool:
    """Not yet, where the store is away for a moment: an error here would end all runs without a save."""
    try:
        return enough(point)
    except Exception as error:
        if not may_heal(error):
            raise
        return False
