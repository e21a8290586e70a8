"""The log of rank 0, wherever it is: `gpt-run job logs`.

Followed in short stretches, each from where the one before ended: a stream from a node that was lost hangs for ever,
and one that broke has to be put together by the lines' times anyway. Each line is printed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from trainer.errors import UserError
from trainer.jobs.backends import Backend
from trainer.jobs.cluster import Cluster
from trainer.jobs.state import JobState, Pod, complaints_of

LOOK_SECONDS = 1.0
# Clocks of two nodes differ by so much at most, or a line is left out when rank 0 moves.
_CLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Cursor:
    """How far a pod's log has been printed."""

    after: tuple[datetime, str] | None = None
    """Time of the last line; its text too, which tells nanoseconds."""
    printed: int = 0
    """Lines with this very time that were printed."""
    restarts: int = 0

    @property
    def since(self) -> datetime | None:
        """From when on to read."""
        return None if self.after is None else self.after[0]


def new_lines(lines: Iterable[str], cursor: Cursor) -> Iterator[tuple[str, Cursor]]:
    """Of lines with their times in front those that come after the cursor, without the times; and the cursor then."""
    skip = cursor.printed
    for line in lines:
        stamp, _, text = line.partition(" ")
        at = (_time(stamp), stamp)
        if cursor.after is not None and at < cursor.after:
            continue
        if at == cursor.after and skip > 0:
            skip -= 1
            continue
        cursor = replace(cursor, after=at, printed=cursor.printed + 1 if at == cursor.after else 1)
        skip = 0
        yield text, cursor


class LogFollower:
    """Prints what is new in the log of whatever pod has rank 0."""

    def __init__(
        self,
        cluster: Cluster,
        backend: Backend,
        *,
        tail: int | None,
        out: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        """out: takes lines of the log. say: takes what this class has to tell."""
        self._cluster = cluster
        self._backend = backend
        self._tail = tail
        self._out = out
        self._say = say
        self._pod: Pod | None = None
        self._certain = False
        self._cursors: dict[str, Cursor] = {}
        self._known: set[str] = set()
        """Pods of the last look."""

    def follow(self, name: str) -> None:
        """Print until the run is over."""
        told = ""
        while True:
            started = time.monotonic()
            state = self._state(name)
            pods = self.look(name, follow=not state.over)
            now = "" if self._pod is not None else waiting_for(state, pods)
            if now and now != told:
                self._say(now)
            told = now
            if state.over:
                self._say(f"{name} is {state.phase}")
                return
            time.sleep(max(0.0, started + LOOK_SECONDS - time.monotonic()))

    def once(self, name: str) -> None:
        """Print what is there. UserError if there is no log."""
        state = self._state(name)
        pods = self.look(name, follow=False)
        if not self._cursors:
            raise UserError(
                f"no log yet: {waiting_for(state, pods)}",
                expected="a worker that has started",
                fix=f"gpt-run job logs {name} --follow waits for it",
            )

    def look(self, name: str, *, follow: bool) -> list[Pod]:
        """Find rank 0 and print what is new, and if it is followed what comes in the next seconds; the run's pods."""
        pods = self._cluster.pods(name)
        pod, certain = self._backend.log_pod(self._cluster.status(name), pods)
        here = {one.uid: one for one in pods}
        if self._pod is not None and not certain:
            # Between two rounds, or without a coordinator: rank 0 is nowhere else than where it was.
            pod, certain = here.get(self._pod.uid) or (None if self._certain else pod), self._certain
        if pod is not None and pod.started:
            if self._pod is not None and pod.uid != self._pod.uid:
                self._print(self._pod, follow=False)
                self._say(f"rank 0 is on {pod.name}")
                self._cursors.setdefault(pod.uid, self._begin(pod))
            self._pod, self._certain = pod, certain
            self._print(pod, follow=follow)
        self._known = set(here)
        return pods

    def _begin(self, pod: Pod) -> Cursor:
        """Where to begin with a pod that takes rank 0 over: what it said before is not rank 0's.

        A pod that has just come has not said anything else.
        """
        assert self._pod is not None
        last = self._cursors.get(self._pod.uid, Cursor()).after
        if last is None or not self._certain or pod.uid not in self._known:
            return Cursor(restarts=pod.restarts)
        return Cursor(after=(last[0] - timedelta(seconds=_CLOCK_SECONDS), ""), restarts=pod.restarts)

    def _print(self, pod: Pod, *, follow: bool) -> None:
        cursor = self._cursors.get(pod.uid, Cursor(restarts=pod.restarts))
        tail = self._tail if not self._cursors else None
        if pod.restarts > cursor.restarts:
            # What the container before said since the last look.
            cursor = replace(cursor, restarts=pod.restarts)
            cursor = self._read(cursor, self._cluster.log(pod, since=cursor.since, tail=tail, previous=True))
        lines = self._cluster.log(pod, since=cursor.since, tail=tail, follow=follow)
        if lines is not None:
            self._cursors[pod.uid] = self._read(cursor, lines)

    def _read(self, cursor: Cursor, lines: Iterator[str] | None) -> Cursor:
        reached = cursor
        for line, at in new_lines(lines or (), cursor):
            self._out(line)
            reached = at
        return reached

    def _state(self, name: str) -> JobState:
        state = self._backend.read(name)
        if state is None:
            raise UserError(f"{name} is gone", expected="a run that is there", fix="somebody deleted it")
        return state


def waiting_for(state: JobState, pods: Sequence[Pod]) -> str:
    """Why there is no log, in words. Pure."""
    troubles = "; ".join(complaints_of(pods).values())
    return f"{state.name} is {state.phase}" + (f": {troubles}" if troubles else ", and no worker has started")


def _time(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)
