"""How far an evaluation is: a bar on a terminal, a plain line now and then anywhere else, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 10.0


class EvaluationDisplay:
    """Shows what `evaluate_model` tells of; use it as a context manager."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._last_line = clock()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", visible=False)

    def __enter__(self) -> EvaluationDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, label: str, done: int, total: int) -> None:
        """`done` of `total` sequences or items of the work called `label` are done."""
        if not self._bar.disable:
            self._bar.update(self._task, description=label, completed=done, total=total, visible=True)
        elif self._clock() - self._last_line >= _LINE_SECONDS:
            self._last_line = self._clock()
            self._console.print(f"{label}: {done} of {total}", highlight=False, markup=False, soft_wrap=True)
