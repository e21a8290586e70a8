"""When a save is due: by the clock, which rank 0 alone looks at, since clocks differ, and by epochs."""

from __future__ import annotations

import math

# After a save that failed: soon, since work is at stake, but not at once, since the store needs a moment to heal.
RETRY_SECONDS = 30.0


class SaveClock:
    """Counts `checkpoint.every_seconds` from save to save; readings are a monotonic clock's."""

    def __init__(self, every_seconds: float, now_seconds: float) -> None:
        """every_seconds: 0 for never, but after a failure."""
        self._every_seconds = every_seconds or math.inf
        self._due_seconds = now_seconds + self._every_seconds

    def due(self, now_seconds: float) -> bool:
        """Whether a save should begin now."""
        return now_seconds >= self._due_seconds

    def began(self, now_seconds: float) -> None:
        """A save begins, whatever asked for it."""
        self._due_seconds = now_seconds + self._every_seconds

    def failed(self, now_seconds: float) -> None:
        """The newest save has failed: the next need not wait for its interval."""
        self._due_seconds = min(self._due_seconds, now_seconds + RETRY_SECONDS)


def due_by_epochs(before: float, after: float, every_epochs: float) -> bool:
    """Whether a step that took a run from one number of epochs to another passed a multiple of `every_epochs`, 0: none.

    Both numbers as the loader counts them: a difference between them would not give the one before back exactly.
    """
    return every_epochs > 0 and after // every_epochs > before // every_epochs
