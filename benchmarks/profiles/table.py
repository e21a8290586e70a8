"""What the profiles share: processor time of some work, and which functions it is spent in.

Processor time, not a clock: a neighbour's load makes work last longer, and no bigger. The figure of an activity is
taken without a profiler, which makes calls dearer; the shares come from a second pass with it.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    what: str
    seconds: float
    """Processor seconds; of a function its own, without what it calls."""
    share: float
    share_with_callees: float
    calls: float


@dataclass(frozen=True)
class Profile:
    """One activity."""

    unit: str
    """What is done once, with its size."""
    seconds: float
    """Processor seconds of one, all threads."""
    rows: list[Row]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def profile(unit: str, work: Callable[[], object], *, repeats: int, scale: int = 1) -> Profile:
    """Measure `work`, which does `scale` units, `repeats` times after a first one that warms caches.

    Only the calling thread's functions have rows: `work` should have no other thread do the most of it.
    """
    work()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append((time.process_time() - started) / scale)
    profiler = cProfile.Profile(time.thread_time)
    profiler.runcall(work)
    return Profile(unit, statistics.median(seconds), rows_of(profiler, scale))


def rows_of(profiler: cProfile.Profile, scale: int = 1) -> list[Row]:
    """A line for each function, those with the most time of their own first."""
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = vars(pstats.Stats(profiler))["stats"]
    total = sum(own for _, _, own, _, _ in stats.values()) or 1.0
    rows = [
        Row(_name(place), own / scale, own / total, whole / total, calls / scale)
        for place, (_, calls, own, whole, _) in stats.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)


def phases(unit: str, spent: Sequence[tuple[str, float]]) -> Profile:
    """Of an activity that is told by its phases, one after another."""
    total = sum(seconds for _, seconds in spent)
    rows = [Row(what, seconds, seconds / total, seconds / total, 1) for what, seconds in spent]
    return Profile(unit, total, rows)


def show(found: Profile, *, top: int, with_callees: bool) -> None:
    """Print the table."""
    rows = sorted(found.rows, key=lambda row: -row.share_with_callees) if with_callees else found.rows
    print(f"{found.unit}: {found.seconds * 1e3:,.2f} ms of processor time")
    print(f"{'ms':>10} {'share':>7} {'with callees':>12} {'calls':>10}  what")
    for row in rows[:top]:
        print(
            f"{row.seconds * 1e3:10.3f} {row.share:7.1%} {row.share_with_callees:12.1%} {row.calls:10,.1f}  {row.what}"
        )


def _name(place: tuple[str, int, str]) -> str:
    file, line, function = place
    if not line:
        return function
    return f"{'/'.join(Path(file).parts[-3:])}:{line} {function}"
