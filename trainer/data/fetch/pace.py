"""How fast requests and bytes may go. Pure: the clock is the caller's, and so is the waiting.

One `Pace` per web server counts requests, one per fetch counts bytes.
"""

from __future__ import annotations

import math


class Pace:
    """Spaces amounts out evenly; nothing is saved up while idle, so there are no bursts."""

    def __init__(self, per_second: float | None = None) -> None:
        """None is no limit."""
        self.per_second = math.inf if per_second is None else per_second
        self._free_at = -math.inf

    def reserve(self, amount: float, now: float) -> float:
        """Take the next turn for `amount`; how many seconds after `now` it begins."""
        start = max(now, self._free_at)
        self._free_at = start + amount / self.per_second
        return start - now

    def pause(self, until: float) -> None:
        """Let no turn begin before `until`."""
        self._free_at = max(self._free_at, until)

    def slow_down(self, per_second: float) -> None:
        """Lower the rate; a higher one is ignored."""
        self.per_second = min(self.per_second, per_second)
