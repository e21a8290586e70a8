"""Hands lines to trackers without training ever waiting for one, or ending because of one.

Made by `trainer.metrics.trackers.start` on rank 0. Each tracker has a thread of its own: a server that is away holds up
neither training nor the other trackers. Lines wait in memory, up to a limit; what a tracker could not take is tried
again with growing pauses, and one that keeps failing is switched off for the attempt.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from trainer.metrics.trackers.base import Kind, Line, Tracker
from trainer.storage_errors import one_line

# Of one tracker: hours of a usual run, and some tens of megabytes.
_MOST_WAITING_LINES = 5000
# Pauses of 5, 10, 20 and 40 seconds between them.
_TRIES = 5
_FIRST_PAUSE_SECONDS = 5.0
# The last checkpoint is in the store by then, and others wait for this process to end.
_CLOSE_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Trackers:
    """All trackers of one attempt."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._feeds = [Feed(tracker) for tracker in trackers]

    def write(self, kind: Kind, record: dict[str, Any]) -> None:
        """Take one line, to be left as it is from now on. Never waits and never raises."""
        for feed in self._feeds:
            feed.put(Line(kind, record))

    def flush(self) -> None:
        """A checkpoint is in the store: what trackers gather for later belongs there too, before a kill can take it."""
        for feed in self._feeds:
            feed.hurry()

    def close(self) -> None:
        """Let trackers finish, for a bounded time."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        for feed in self._feeds:
            feed.end()
        for feed in self._feeds:
            feed.wait(max(0.0, deadline - time.monotonic()))


class Feed:
    """One tracker, its thread and the lines that wait for it."""

    def __init__(
        self,
        tracker: Tracker,
        *,
        first_pause_seconds: float = _FIRST_PAUSE_SECONDS,
        most_lines: int = _MOST_WAITING_LINES,
    ) -> None:
        self._tracker = tracker
        self._first_pause_seconds = first_pause_seconds
        self._most_lines = most_lines
        self._changed = threading.Condition()
        # What follows is shared with the thread, under the condition's lock.
        self._waiting: deque[Line] = deque()
        self._left_out = 0
        self._hurried = False
        self._ending = False
        self._off = False
        # A daemon: a tracker that hangs must not keep the process.
        self._thread = threading.Thread(target=self._work, name=f"tracker-{tracker.name}", daemon=True)
        self._thread.start()

    def put(self, line: Line) -> None:
        """Add a line; the oldest goes if too many wait."""
        with self._changed:
            if self._off:
                return
            if len(self._waiting) == self._most_lines:
                self._waiting.popleft()
                self._left_out += 1
            self._waiting.append(line)
            self._changed.notify()

    def hurry(self) -> None:
        """Hand over at once what waits."""
        with self._changed:
            self._hurried = bool(self._waiting)
            self._changed.notify()

    def end(self) -> None:
        """No more lines will come."""
        with self._changed:
            self._ending = True
            self._changed.notify()

    def wait(self, seconds: float) -> None:
        """Wait for the thread to end; a warning where it does not."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            _log.warning(
                "tracker %s: still busy at the end, left behind; the lines are in the store", self._tracker.name
            )

    def _work(self) -> None:
        failures = 0
        batch: list[Line] = []
        delivered_at_seconds = float("-inf")
        while True:
            pause = self._first_pause_seconds * 2 ** (failures - 1) if failures else self._tracker.interval_seconds
            ending = self._wait_until(delivered_at_seconds + pause, retry=bool(batch))
            batch = batch or self._take()
            if batch:
                delivered_at_seconds = time.monotonic()
                try:
                    self._tracker.write(batch)
                except Exception as error:
                    failures += 1
                    if failures == _TRIES or ending:
                        self._switch_off(error, failures)
                        break
                    self._tell_failure(error, len(batch))
                else:
                    failures, batch = 0, []
            elif ending:
                break
        self._close_tracker()

    def _wait_until(self, due_seconds: float, *, retry: bool) -> bool:
        """Wait for lines, where none are in hand to `retry`, and for their time. Returns whether it is the end."""
        with self._changed:
            while not self._ending and (retry or not self._hurried):
                if not retry and not self._waiting:
                    self._changed.wait()
                elif (left := due_seconds - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    break
            return self._ending

    def _take(self) -> list[Line]:
        with self._changed:
            lines, left_out = list(self._waiting), self._left_out
            self._waiting.clear()
            self._left_out, self._hurried = 0, False
        if left_out:
            _log.warning("tracker %s: too slow, %d lines were left out", self._tracker.name, left_out)
        return lines

    def _tell_failure(self, error: Exception, lines: int) -> None:
        name, text = self._tracker.name, one_line(error)
        _log.warning("tracker %s: %d lines not taken, trying again with what follows (%s)", name, lines, text)

    def _switch_off(self, error: Exception, failures: int) -> None:
        with self._changed:
            self._off = True
            self._waiting.clear()
        times = "once" if failures == 1 else f"{failures} times in a row"
        _log.warning(
            "tracker %s: failed %s, switched off for this attempt; training goes on, the lines are in the store (%s)",
            self._tracker.name,
            times,
            one_line(error),
        )

    def _close_tracker(self) -> None:
        try:
            self._tracker.close()
        except Exception as error:
            _log.warning("tracker %s: not closed as it should be (%s)", self._tracker.name, one_line(error))
