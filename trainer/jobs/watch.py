"""Wait for a run, or for a suspension or a resume to be done, and show meanwhile what it does.

`wait_for_end` is `gpt-run job wait` and `submit --wait`; `wait_for` the other commands' `--wait`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trainer.errors import EXIT_FAILED, UserError
from trainer.jobs.backends import Backend
from trainer.jobs.cluster import Cluster
from trainer.jobs.display import Display
from trainer.jobs.state import EXIT_CODES, Phase, Pod, complaints_of, ends_of, with_pods
from trainer.jobs.status import unanswered

LOOK_SECONDS = 2.0
# A run is Running some seconds before its coordinator answers; after so many, something may keep it from doing so.
_UNANSWERED_SECONDS = 60.0
_TRAINING = ("training", "evaluating", "saving")


@dataclass(frozen=True)
class View:
    """A run at one moment."""

    phase: Phase
    message: str
    pods: tuple[Pod, ...]
    document: dict[str, Any] | None
    """The newest /status that there was."""

    @property
    def last_error(self) -> str:
        """What the coordinator says went wrong, or nothing."""
        found = (self.document or {}).get("last_error") or {}
        return str(found.get("message") or "")

    @property
    def trains(self) -> bool:
        """Whether steps are taken."""
        return self.phase is Phase.RUNNING and (self.document or {}).get("phase") in _TRAINING


@dataclass(frozen=True)
class Outcome:
    """How a wait ended."""

    view: View
    exit_code: int
    timed_out: bool = False


class Watch:
    """Looks at one run."""

    def __init__(self, cluster: Cluster, backend: Backend, name: str) -> None:
        self._cluster = cluster
        self._backend = backend
        self._name = name
        self._document: dict[str, Any] | None = None

    def look(self) -> View:
        """The run now. UserError if it is gone."""
        state = self._backend.read(self._name)
        if state is None:
            raise UserError(f"{self._name} is gone", expected="a run that is there", fix="somebody deleted it")
        pods = tuple(self._cluster.pods(self._name))
        # A coordinator that is being replaced does not answer; what it said last is still the best there is.
        self._document = self._cluster.status(self._name) or self._document
        return View(with_pods(state, pods), state.message, pods, self._document)

    def wait_for_end(self, shown: Display, *, timeout_seconds: float | None) -> Outcome:
        """Until it succeeded, failed or was suspended."""
        return self.wait_for(shown, lambda view: view.phase in EXIT_CODES, timeout_seconds=timeout_seconds)

    def wait_for(self, shown: Display, done: Callable[[View], bool], *, timeout_seconds: float | None) -> Outcome:
        """Until `done`, or until the run is over; exit code 1 if the time runs out before."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        told: set[tuple[str, ...]] = set()
        silent_since = math.inf
        while True:
            view = self.look()
            shown.show(view.phase, view.document, datetime.now(UTC))
            news = _news(view)
            silent = view.phase is Phase.RUNNING and view.document is None
            silent_since = min(silent_since, time.monotonic()) if silent else math.inf
            if time.monotonic() - silent_since >= _UNANSWERED_SECONDS:
                news |= {("unanswered", line): line for line in unanswered(self._name, view.phase)}
            for about, line in news.items():
                if about not in told:
                    told.add(about)
                    shown.say(line)
            if done(view) or view.phase in (Phase.SUCCEEDED, Phase.FAILED):
                return Outcome(view, EXIT_CODES.get(view.phase, 0))
            if deadline is not None and time.monotonic() >= deadline:
                return Outcome(view, EXIT_FAILED, timed_out=True)
            time.sleep(LOOK_SECONDS)


def report(outcome: Outcome, name: str, timeout_seconds: float | None) -> list[str]:
    """What to say at the end of a wait. Pure."""
    view = outcome.view
    if outcome.timed_out:
        return [f"{name} is {view.phase} after {timeout_seconds:g} s; it goes on"]
    lines = [f"{name} is {view.phase}" + (f": {view.message}" if view.message else "")]
    if view.phase is Phase.FAILED:
        lines += [f"last error: {view.last_error}"] if view.last_error else []
        lines += ends_of(view.pods)
    return lines


def _news(view: View) -> dict[tuple[str, ...], str]:
    """What a person should hear of at once, and only once: what it is about -> a line."""
    troubles = complaints_of(view.pods)
    # Its end is told by `report`.
    if view.last_error and view.phase is not Phase.FAILED:
        troubles["last error", view.last_error] = f"last error: {view.last_error}"
    return troubles
