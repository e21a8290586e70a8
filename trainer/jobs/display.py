"""How a run's progress looks while a command waits: a bar on a terminal, else a line when something changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from trainer.jobs.progress import figures, phase_word, progress_line, steps_of
from trainer.jobs.state import Phase

# A run that trains changes all the time: no more than a line in so many seconds.
_LINE_SECONDS = 10.0


class Display(Protocol):
    """Where progress goes."""

    def show(self, phase: Phase, document: dict[str, Any] | None, now: datetime) -> None:
        """What the run does now."""

    def say(self, message: str) -> None:
        """Something happened."""


@contextlib.contextmanager
def display(console: Console) -> Iterator[Display]:
    """The display that suits where the output goes."""
    if not console.is_terminal:
        yield Lines(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=2, transient=True) as progress:
        yield _Bar(progress)


class Lines:
    """One line when the phase changed, or when steps were taken and the last line is some seconds old."""

    def __init__(self, out: Callable[[str], None]) -> None:
        self.say = out
        self._phase = ""
        self._step = -1
        self._at: datetime | None = None

    def show(self, phase: Phase, document: dict[str, Any] | None, now: datetime) -> None:
        """Print, or not."""
        word, step = phase_word(phase, document), steps_of(document)[0]
        old = self._at is None or (now - self._at).total_seconds() >= _LINE_SECONDS
        if word != self._phase or (step != self._step and old):
            self._phase, self._step, self._at = word, step, now
            self.say(progress_line(phase, document, now))


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, figures="")

    def show(self, phase: Phase, document: dict[str, Any] | None, now: datetime) -> None:
        step, total = steps_of(document)
        self._progress.update(
            self._task,
            description=phase_word(phase, document),
            completed=step,
            total=total,
            figures=figures(document, now),
        )

    def say(self, message: str) -> None:
        self._progress.console.print(message, markup=False, highlight=False, soft_wrap=True)
