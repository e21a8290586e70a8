"""Plays one plan: starts the run, breaks what the plan says, mends it again, and replaces machines that have ended.

The driver is what an orchestrator and its people are to a run: a machine that ends is started again, at once after a
failure and after wrong input once the cause is mended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.faults.observe import Observer
from tests.faults.plan import ENDS_ALL, Fault, Moment, Plan, Store, When
from tests.faults.where import GivenUp, Mend, Miss, Stage
from trainer.errors import EXIT_USER_ERROR

STUCK_SECONDS = 240.0
"""A run of which nothing is seen for so long is stuck."""
# The next moment is for a run that has found back, or takes so long.
_FOUND_BACK_SECONDS = 30.0
# Machines that would start again and again without getting anywhere.
_MOST_STARTS = 40


@dataclass
class Played:
    """What came of a moment."""

    moment: Moment
    began_at: float | None = None
    """Monotonic seconds; None if it found nothing to break."""
    missed: list[str] = field(default_factory=list)


@dataclass
class Driven:
    """How a run went."""

    played: list[Played]
    ended: bool = False
    why_not: str = ""
    seconds: float = 0.0


@dataclass
class _Mending:
    at: float
    fault: Fault
    mend: Mend


class Driver:
    """One run under its plan."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self._stage = stage
        self._plan = plan
        self._observer = Observer(stage.training)
        self._mending: list[_Mending] = []
        self._paused = False
        self.driven = Driven([Played(moment) for moment in plan.moments])

    @property
    def observer(self) -> Observer:
        return self._observer

    def run(self) -> Driven:
        """To the end of the run, or to the moment at which it is given up."""
        began = seen_at = time.monotonic()
        seen = (0, 0)
        self._stage.start_missing()
        script = self._script()
        over = False
        while True:
            if not over:
                over = next(script, "over") == "over"
            try:
                self._tend()
            except GivenUp as end:
                self.driven.why_not = str(end)
                break
            codes = [machine.popen.poll() for machine in self._stage.machines()]
            # A moment that waits for a run which has ended has missed it.
            if all(code == 0 for code in codes) and not self._paused:
                self.driven.ended = True
                break
            now = (len(self._observer.observed.steps), len(self._stage.retired()))
            if now != seen:
                seen, seen_at = now, time.monotonic()
            if time.monotonic() - seen_at > STUCK_SECONDS:
                self.driven.why_not = f"no step and no end of a machine for {STUCK_SECONDS:g} s; machines: {codes}"
                break
            if len(self._stage.retired()) > _MOST_STARTS:
                self.driven.why_not = f"machines were started {_MOST_STARTS} times"
                break
            time.sleep(0.01)
        self._mend_now(everything=True)
        self._observer.look()
        for played in self.driven.played:
            if played.began_at is None and not played.missed:
                played.missed.append("the run was over before")
        self.driven.seconds = time.monotonic() - began
        return self.driven

    def _tend(self) -> None:
        """Mend what has been broken long enough; start what has ended."""
        self._observer.look()
        self._mend_now()
        if self._paused:
            return
        machines = self._stage.machines()
        if any(machine.popen.poll() == EXIT_USER_ERROR for machine in machines) and self._mending:
            return  # people mend the cause before they start it again
        if any(machine.popen.poll() not in (None, 0) for machine in machines):
            self._stage.start_missing()

    def _mend_now(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        due = [one for one in self._mending if everything or one.at <= now]
        self._mending = [one for one in self._mending if one not in due]
        for one in due:
            one.mend()

    def _script(self) -> Iterator[None]:
        """The moments, one after another; each `yield` is a wait of a moment."""
        for played in self.driven.played:
            moment = played.moment
            if not (moment.when is When.START and moment.step % 2):
                yield from self._wait(lambda step=moment.step: self._observer.observed.newest_step >= step, 1e9)  # type: ignore[misc]
            if not (yield from self._reach(moment)):
                played.missed.append(f"no such moment: {moment.when}")
                self._stage.release()
                continue
            self._happen(played)
            self._stage.release()
            seen = len(self._observer.observed.steps)
            yield from self._wait(lambda seen=seen: len(self._observer.observed.steps) > seen + 3, _FOUND_BACK_SECONDS)  # type: ignore[misc]

    def _reach(self, moment: Moment) -> Iterator[None]:
        """Wait for the point of the run; whether it came."""
        stage, on_s3 = self._stage, self._plan.store is Store.S3
        match moment.when:
            case When.STEP:
                return True
            case When.START:
                if moment.step % 2 == 0:
                    yield from self._stop_all()
                return (yield from self._wait(self._workers_are_there))
            case When.SAVE:
                if on_s3:
                    stage.hold(".distcp")
                    return (yield from self._wait(lambda: stage.held() > 0))
                before = set(self._unfinished())
                return (yield from self._wait(lambda: bool(set(self._unfinished()) - before)))
            case When.LOAD:
                yield from self._stop_all(before_restart=lambda: stage.hold(".distcp"))
                return (yield from self._wait(lambda: stage.held() > 0))
            case When.EVALUATION:
                return (yield from self._wait(self._phase_is("evaluating")))
        raise AssertionError(moment.when)

    def _stop_all(self, before_restart: Callable[[], None] = lambda: None) -> Iterator[None]:
        """SIGTERM to all machines, until they have ended; then they are started again."""
        self._paused = True
        self._stage.terminate_all()
        yield from self._wait(lambda: all(one.popen.poll() is not None for one in self._stage.machines()))
        before_restart()
        self._paused = False

    def _happen(self, played: Played) -> None:
        played.began_at = time.monotonic()
        for fault in played.moment.faults:
            try:
                mend = self._stage.apply(fault)
            except Miss as miss:
                played.missed.append(f"{fault.kind}: {miss}")
                continue
            if mend is not None and not fault.for_good:
                seconds = fault.seconds + (2.0 if fault.kind in ENDS_ALL else 0.0)
                self._mending.append(_Mending(time.monotonic() + seconds, fault, mend))

    def _wait(self, there: Callable[[], bool], seconds: float | None = None) -> Iterator[None]:
        """Until it is there, for as long as the place is patient or so many seconds; whether it came in time."""
        deadline = time.monotonic() + (self._stage.patience_seconds if seconds is None else seconds)
        while not there():
            if time.monotonic() > deadline:
                return False
            yield
        return True

    def _workers_are_there(self) -> bool:
        return any(_has_workers(machine) for machine in self._stage.machines())

    def _unfinished(self) -> list[str]:
        folders = self._stage.training.run.glob("checkpoints/*")
        return [folder.name for folder in folders if not (folder / "COMMITTED.json").exists()]

    def _phase_is(self, phase: str) -> Callable[[], bool]:
        return lambda: self._stage.phase() == phase


def _has_workers(machine: object) -> bool:
    import psutil

    try:
        return bool(machine.workers())  # type: ignore[attr-defined]
    except psutil.NoSuchProcess:
        return False
