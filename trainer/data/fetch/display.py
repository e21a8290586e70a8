"""Progress of a fetch, file by file and in total: bars on a terminal, a plain line now and then anywhere else.

`run` opens it; `download` and `upload` tell it of files and bytes, from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from trainer.data.progress import LINE_SECONDS, MB

# How many files under way a line names.
_NAMED = 3


class Display:
    """Counts files and bytes, and shows them on standard error."""

    def __init__(
        self, label: str, num_files: int, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._num_files, self._clock = label, num_files, clock
        self._console = console or Console(stderr=True)
        self._ended = self._received_bytes = self._ended_bytes = self._total_bytes = 0
        self._sizes: dict[str, int] = {}
        self._here: dict[str, int] = {}
        self._started = self._last = clock()
        self._lock = Lock()
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            text = TextColumn("{task.description}", markup=False)
            self._bars = Progress(
                text, BarColumn(), DownloadColumn(), SpeedColumn(), TimeRemainingColumn(), console=self._console
            )
            self._bars.start()
            self._tasks[""] = self._bars.add_task(self._headline(), total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        else:
            self._print()

    def expect(self, sizes: dict[str, int]) -> None:
        """Sizes that are known before the files come."""
        for name, num_bytes in sizes.items():
            self._size(name, num_bytes)

    def start(self, name: str, num_bytes: int | None, here: int) -> None:
        """A file begins, or begins anew, with `here` bytes of it there."""
        with self._lock:
            if num_bytes is not None:
                self._size(name, num_bytes)
            self._here[name] = here
            if self._bars is not None:
                if name not in self._tasks:
                    self._tasks[name] = self._bars.add_task(name, total=num_bytes)
                self._bars.update(self._tasks[name], total=num_bytes, completed=here)
            self._show()

    def advance(self, name: str, num_bytes: int) -> None:
        """More bytes of a file are there."""
        with self._lock:
            self._here[name] = self._here.get(name, 0) + num_bytes
            self._received_bytes += num_bytes
            if self._bars is not None and name in self._tasks:
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
            if self._bars is not None and name in self._tasks:
                self._bars.remove_task(self._tasks.pop(name))
            self._show()

    def _size(self, name: str, num_bytes: int) -> None:
        self._total_bytes += num_bytes - self._sizes.get(name, 0)
        self._sizes[name] = num_bytes

    def _show(self) -> None:
        if self._bars is not None:
            self._bars.update(
                self._tasks[""],
                description=self._headline(),
                total=self._total_bytes,
                completed=self._done_bytes(),
            )
        elif self._clock() - self._last >= LINE_SECONDS:
            self._print()

    def _print(self) -> None:
        now = self._clock()
        speed = self._received_bytes / MB / max(now - self._started, 1e-9)
        line = f"{self._headline()}, {self._done_bytes() / MB:.1f} of {self._total_bytes / MB:.1f} MB, {speed:.1f} MB/s"
        under_way = [f"{name} {self._share(name)}" for name in list(self._here)[:_NAMED]]
        more = len(self._here) - len(under_way)
        if under_way:
            line += f"; {', '.join(under_way)}{f' and {more} more' if more > 0 else ''}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._last = now

    def _headline(self) -> str:
        return f"{self._label}: {self._ended} of {self._num_files} files"

    def _done_bytes(self) -> int:
        return self._ended_bytes + sum(self._here.values())

    def _share(self, name: str) -> str:
        size = self._sizes.get(name)
        return f"{100 * self._here[name] // size}%" if size else f"{self._here[name] / MB:.1f} MB"
