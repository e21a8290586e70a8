"""training.jsonl and its neighbours: the lines of an attempt, kept in the run's store under `logs/<attempt>/`.

Written by rank 0 of the train loop. A local store gets each line at once. Object stores cannot append, so lines are
gathered and uploaded as numbered write-once files, every minute and at each commit, by a thread: a slow or failing
store never holds up or ends training. What could not be written is tried again with what comes after it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trainer.checkpoint.store import Store
from trainer.storage_errors import one_line

_FLUSH_SECONDS = 60.0
_log = logging.getLogger(__name__)


class History:
    """The files of JSON lines of one attempt: training, performance, gpu, events."""

    def __init__(self, run: Store, attempt_name: str) -> None:
        self._run = run
        self._folder = f"logs/{attempt_name}"
        self._lines: dict[str, list[str]] = {}
        self._segments: Counter[str] = Counter()
        self._last_flush_seconds: float | None = None
        self._unsent: dict[str, bytes] = {}
        """Path -> lines that are not in the store yet; the uploading thread's own."""
        self._uploads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")

    def write(self, record: dict[str, Any], now_seconds: float, *, name: str = "training") -> None:
        """Add one line to the file called `name`; `now_seconds` is a monotonic clock's reading."""
        self._lines.setdefault(name, []).append(json.dumps(record) + "\n")
        if self._run.is_local:
            self._append(name)
            return
        self._last_flush_seconds = self._last_flush_seconds or now_seconds
        if now_seconds - self._last_flush_seconds >= _FLUSH_SECONDS:
            self.flush(now_seconds)

    def flush(self, now_seconds: float) -> None:
        """Upload what was gathered, in the background."""
        self._last_flush_seconds = now_seconds
        if self._lines and not self._run.is_local:
            self._uploads.submit(self._upload, self._take())

    def close(self) -> None:
        """Write the rest and wait for it."""
        if self._run.is_local:
            for name in list(self._lines):
                self._append(name)
            return
        self._uploads.submit(self._upload, self._take())
        self._uploads.shutdown(wait=True)

    def _append(self, name: str) -> None:
        """To the file of a local store: the lines of a name that are not in it yet."""
        path = self._run.local_path(f"{self._folder}/{name}-000.jsonl")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _append_whole(path, "".join(self._lines[name]).encode())
        except OSError as error:
            _log.warning("%s: %d lines of history wait (%s)", path, len(self._lines[name]), error)
            return
        del self._lines[name]

    def _take(self) -> dict[str, bytes]:
        """The gathered lines under the names of their files."""
        taken = {}
        for name, lines in self._lines.items():
            taken[f"{self._folder}/{name}-{self._segments[name]:03d}.jsonl"] = "".join(lines).encode()
            self._segments[name] += 1
        self._lines = {}
        return taken

    def _upload(self, taken: dict[str, bytes]) -> None:
        self._unsent.update(taken)
        for path, lines in list(self._unsent.items()):
            try:
                self._run.write_once(path, lines)
            except Exception as error:
                # Those after it would meet the same store, and wait too.
                waiting = sum(map(len, self._unsent.values()))
                _log.warning("%s: not uploaded, %d bytes of history wait (%s)", path, waiting, one_line(error))
                return
            del self._unsent[path]


def _append_whole(path: Path, data: bytes) -> None:
    """All or nothing: half a line of a disk that was full would swallow the line that comes after it."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        if file.write(data) < len(data):
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
