"""TensorBoard's event files of an attempt, kept in the run's store under `logs/tensorboard/`.

For people who point a TensorBoard of their own at the store. A local store has one file per attempt, which grows;
object stores cannot append, so there events are gathered for a minute and become numbered write-once files. Names sort
by attempt, then by number: the order in which TensorBoard reads a folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.checkpoint.store import Store
from trainer.metrics.trackers.base import Line

FOLDER = "logs/tensorboard"
_UPLOAD_SECONDS = 60.0


class TensorBoardTracker:
    """Event files of one attempt."""

    name = "tensorboard"

    def __init__(self, run: Store, attempt_name: str, *, first_step: int, settings: Mapping[str, Any]) -> None:
        """`first_step` is the first that this attempt takes, `settings` the run's own."""
        self.interval_seconds = 0.0 if run.is_local else _UPLOAD_SECONDS
        self._run = run
        self._base = f"{FOLDER}/events.out.tfevents.{attempt_name}"
        self._first_step, self._settings = first_step, settings
        self._segment = 0
        self._size_bytes = 0
        """Of a local file: what is beyond it is of a write that failed."""

    def write(self, lines: Sequence[Line]) -> None:
        """Put the events of lines into the store. The same lines give the same bytes in the same place."""
        path = f"{self._base}-{self._segment:06d}"
        if self._run.is_local:
            data = self._encoded(lines, begins_file=self._size_bytes == 0)
            _write_at(self._run.local_path(path), self._size_bytes, data)
            self._size_bytes += len(data)
        else:
            self._run.write_once(path, self._encoded(lines, begins_file=True))
            self._segment += 1

    def close(self) -> None:
        """Every write is whole by itself."""

    def _encoded(self, lines: Sequence[Line], *, begins_file: bool) -> bytes:
        # Seconds of imports, in this thread and not in that of training.
        from trainer.metrics.trackers import events

        found = [events.header()] if begins_file else []
        if begins_file and self._segment == 0:
            seconds = events.seconds_of(lines[0].record)
            found.append(events.session_start(self._first_step, seconds))
            found.append(events.hyperparameters(self._settings, self._run.name, seconds))
        return events.encode([*found, *(event for line in lines for event in events.events_of(line))])


def _write_at(path: Path, offset_bytes: int, data: bytes) -> None:
    """Write over whatever a failed write has left from `offset_bytes` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        file.seek(offset_bytes)
        file.write(data)
        file.truncate()
