"""training.jsonl: the lines of an attempt, kept in the run's store under `logs/<attempt>/`.

Written by rank 0 of the train loop. A local store gets each line at once. Object stores cannot append, so lines are
gathered and uploaded as numbered write-once files, every minute and at each commit, by a thread: a slow or failing
store never holds up or ends training.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trainer.checkpoint.store import Store

_FLUSH_SECONDS = 60.0
_log = logging.getLogger(__name__)


class History:
    """The JSON lines file of one attempt."""

    def __init__(self, run: Store, attempt_name: str, *, name: str = "training") -> None:
        self._run = run
        self._base = f"logs/{attempt_name}/{name}"
        self._lines: list[str] = []
        self._segment = 0
        self._last_flush_seconds: float | None = None
        self._uploads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="history")

    def write(self, record: dict[str, Any], now_seconds: float) -> None:
        """Add one line; `now_seconds` is a monotonic clock's reading."""
        line = json.dumps(record) + "\n"
        if self._run.is_local:
            path = self._run.local_path(f"{self._base}-000.jsonl")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as error:
                _log.warning("%s: line not written (%s)", path, error)
            return
        self._lines.append(line)
        self._last_flush_seconds = self._last_flush_seconds or now_seconds
        if now_seconds - self._last_flush_seconds >= _FLUSH_SECONDS:
            self.flush(now_seconds)

    def flush(self, now_seconds: float) -> None:
        """Upload what was gathered, in the background."""
        self._last_flush_seconds = now_seconds
        if self._lines:
            data = "".join(self._lines).encode()
            self._lines = []
            self._uploads.submit(self._upload, f"{self._base}-{self._segment:03d}.jsonl", data)
            self._segment += 1

    def close(self, now_seconds: float) -> None:
        """Upload the rest and wait for it."""
        self.flush(now_seconds)
        self._uploads.shutdown(wait=True)

    def _upload(self, path: str, data: bytes) -> None:
        try:
            self._run.write_once(path, data)
        except Exception as error:
            _log.warning("%s: %d bytes of history not uploaded (%s)", path, len(data), error)
