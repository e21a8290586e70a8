"""Progress of long work: bars on a terminal, a plain line now and then anywhere else.

`progress` counts bytes alone, for preparation and checkpoints; `Display` also shows the files under way, for fetches.
Both write to standard error, and may be told of work from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LINE_SECONDS = 5.0
MB = 1_000_000
# How many files under way a line names.
_NAMED = 3
# What the bytes of work without files are counted under.
_ALL = ""

Advance = Callable[[int], None]


@contextmanager
def progress(label: str, total_bytes: int) -> Iterator[Advance]:
    """Show work on `total_bytes` bytes; the yielded function reports that many more are done."""
    with Display(label) as display:
        display.expect({_ALL: total_bytes})
        yield lambda num_bytes: display.advance(_ALL, num_bytes)


class Display:
    """Counts files and bytes, and shows them. Use it as a context manager."""

    def __init__(
        self,
        label: str,
        num_files: int | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label, self._num_files, self._clock = label, num_files, clock
        self._console = console or Console(stderr=True)
        self._ended = self._received_bytes = self._ended_bytes = self._total_bytes = 0
        self._sizes: dict[str, int] = {}
        self._here: dict[str, int] = {}
        self._started = self._last = clock()
        self._lock = Lock()
        # Without a terminal it only keeps count.
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {_ALL: self._bars.add_task(self._headline(), total=None)}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        if self._bars.disable:
            self._print()

    def expect(self, sizes: Mapping[str, int]) -> None:
        """Sizes that are known before the files come."""
        for name, num_bytes in sizes.items():
            self._size(name, num_bytes)

    def start(self, name: str, num_bytes: int | None, here: int) -> None:
        """A file begins, or begins anew, with `here` bytes of it there."""
        with self._lock:
            if num_bytes is not None:
                self._size(name, num_bytes)
            self._here[name] = here
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=num_bytes)
            self._bars.update(self._tasks[name], total=num_bytes, completed=here)
            self._show()

    def advance(self, name: str, num_bytes: int) -> None:
        """More bytes of a file are there."""
        with self._lock:
            self._here[name] = self._here.get(name, 0) + num_bytes
            self._received_bytes += num_bytes
            if name in self._tasks and name != _ALL:
                self._bars.advance(self._tasks[name], num_bytes)
            self._show()

    def end(self, name: str, num_bytes: int | None) -> None:
        """A file is done: whole, or given up (None)."""
        with self._lock:
            self._here.pop(name, None)
            self._size(name, num_bytes or 0)
            del self._sizes[name]
            self._ended += 1
            self._ended_bytes += num_bytes or 0
            if name in self._tasks:
                self._bars.remove_task(self._tasks.pop(name))
            self._show()

    def _size(self, name: str, num_bytes: int) -> None:
        self._total_bytes += num_bytes - self._sizes.get(name, 0)
        self._sizes[name] = num_bytes

    def _show(self) -> None:
        if self._bars.disable:
            if self._clock() - self._last >= LINE_SECONDS:
                self._print()
            return
        done = self._done_bytes()
        self._bars.update(self._tasks[_ALL], description=self._headline(), total=self._total_bytes, completed=done)

    def _print(self) -> None:
        now = self._clock()
        speed = self._received_bytes / MB / max(now - self._started, 1e-9)
        line = f"{self._headline()}{self._done_bytes() / MB:.1f} of {self._total_bytes / MB:.1f} MB, {speed:.1f} MB/s"
        under_way = [name for name in self._here if name != _ALL]
        if under_way:
            line += f"; {', '.join(f'{name} {self._share(name)}' for name in under_way[:_NAMED])}"
        if len(under_way) > _NAMED:
            line += f" and {len(under_way) - _NAMED} more"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._last = now

    def _headline(self) -> str:
        files = "" if self._num_files is None else f"{self._ended} of {self._num_files} files, "
        return f"{self._label}: {files}"

    def _done_bytes(self) -> int:
        return self._ended_bytes + sum(self._here.values())

    def _share(self, name: str) -> str:
        size = self._sizes.get(name)
        return f"{100 * self._here[name] // size}%" if size else f"{self._here[name] / MB:.1f} MB"
