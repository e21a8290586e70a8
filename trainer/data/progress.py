"""Progress of long work: a bar on a terminal, a plain line now and then anywhere else. Used by preparation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

LINE_SECONDS = 5.0
MB = 1_000_000

Advance = Callable[[int], None]


@contextmanager
def progress(label: str, total_bytes: int) -> Iterator[Advance]:
    """Show work on `total_bytes` bytes on standard error; the yielded function reports that many more are done."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(label, total=total_bytes)
            yield lambda num_bytes: bar.advance(task, num_bytes)
        return
    with _lines(console, label, total_bytes) as advance:
        yield advance


@contextmanager
def _lines(console: Console, label: str, total_bytes: int) -> Iterator[Advance]:
    started = last = time.monotonic()
    done = 0

    def say(now: float) -> None:
        speed = done / MB / max(now - started, 1e-9)
        console.print(f"{label}: {done / MB:.1f} of {total_bytes / MB:.1f} MB, {speed:.1f} MB/s", highlight=False)

    def advance(num_bytes: int) -> None:
        nonlocal done, last
        done += num_bytes
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            say(now)

    yield advance
    say(time.monotonic())
