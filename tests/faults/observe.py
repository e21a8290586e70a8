"""What a run shows while it goes on: the lines that its machines print, with the time at which each was seen."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.integration.training import Process, Training

_SAVED = re.compile(r"^saved (step-\d+-a\d+) ")


@dataclass(frozen=True)
class Step:
    """One step that rank 0 of an attempt printed."""

    seen_at: float
    """Monotonic seconds of the observer."""
    attempt: int
    step: int
    loss: float | None
    batch: str


@dataclass
class Observed:
    """Everything that was printed until now."""

    steps: list[Step] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    """Checkpoints that a run said to have saved."""
    started_from_nothing: int = 0

    @property
    def newest_step(self) -> int:
        return self.steps[-1].step if self.steps else 0

    def longest_gap(self, start: float, end: float) -> float:
        """Seconds between two steps one after the other, of which the later came after `start`."""
        times = [one.seen_at for one in self.steps]
        pairs = pairwise(times)
        return max((later - max(earlier, start) for earlier, later in pairs if start < later <= end), default=0.0)

    def pauses_seconds(self, began_at: Sequence[float], ended_at: float) -> list[float]:
        """The longest gap after each of the moments, until the next one or the end of the run."""
        return [round(self.longest_gap(start, end), 2) for start, end in pairwise([*began_at, ended_at])]


class Observer:
    """Reads on in the outputs of a run's processes."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._offsets: dict[Path, int] = {}
        self.observed = Observed()

    def look(self) -> Observed:
        """Take in what was printed since the last call."""
        now = time.monotonic()
        for process in list(self._training.processes):
            for line in self._new_lines(process):
                self._take(line, now)
        return self.observed

    def _new_lines(self, process: Process) -> list[str]:
        path = process.output
        offset = self._offsets.get(path, 0)
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
        whole = data.rfind(b"\n") + 1
        self._offsets[path] = offset + whole
        return data[:whole].decode(errors="replace").splitlines()

    def _take(self, line: str, now: float) -> None:
        if not line.startswith("{"):
            return
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:  # two processes wrote at once
            return
        message = record.get("message", "")
        if "loss" in record and "batch_sha256" in record:
            attempt = int(record["attempt"][1:])
            self.observed.steps.append(Step(now, attempt, record["step"], record["loss"], record["batch_sha256"]))
        elif found := _SAVED.match(message):
            self.observed.saved.append(found[1])
        elif message.startswith("starting at step 0"):
            self.observed.started_from_nothing += 1
