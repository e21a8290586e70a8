"""Passes over runs: facts, decision, status, actions.

A run has at most one pass at a time; whatever happens to it meanwhile makes one more, however much it was. Passes are
made while this replica holds the Lease, a few at a time, and again when a decision's window ends, when a pass has
failed (later each time) and now and then though nothing was heard. One that stands by keeps what there is to do until
it holds the Lease, so that one that lost it for a moment has nothing to begin anew; passes that are going on when it is
lost are broken off, wherever they are.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from operators import status_patch
from operators.actions import Decision, verb
from operators.api import ConditionReason, ConditionType, Phase, TrainingRun, TrainingRunStatus
from operators.apply import Applier, Result
from operators.caches import Caches
from operators.coordinators import Coordinators
from operators.decide import decide
from operators.kube import Away
from operators.metrics import Metrics
from operators.observe import Observer
from operators.records import InvalidRun, RunKey, turn_of

# Passes that wait for the API server at once; as many again for news that cannot wait behind figures.
_WORKERS = 12
# After a write that came too late: until then the watch has brought what is newer.
_OLD_NEWS_SECONDS = 1.0
_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 1.0, 30.0
# The longest that a run is left alone.
_RESYNC_SECONDS = 300.0
_ROOM_SECONDS = 5.0
# What is newer than this when the Lease comes may be news to everybody: the holder before may have died long before.
_UNSEEN_SECONDS = 30.0
# How often one that stands by looks whether it holds the Lease.
_LEASE_SECONDS = 0.1
_NEVER_WRITTEN = TrainingRunStatus()
_log = logging.getLogger(__name__)


class Loop:
    """Makes passes over the runs that `touch` names."""

    def __init__(
        self,
        caches: Caches,
        observer: Observer,
        applier: Applier,
        metrics: Metrics,
        *,
        leads: Callable[[], bool],
        status_interval_seconds: float,
    ) -> None:
        self._caches = caches
        self._observer = observer
        self._applier = applier
        self._metrics = metrics
        self._leads = leads
        self._interval = status_interval_seconds
        self.coordinators: Coordinators | None = None
        self._news: asyncio.Queue[RunKey] = asyncio.Queue()
        self._figures: asyncio.Queue[RunKey] = asyncio.Queue()
        # Runs to pass over, with when the oldest reason came up (while standing by, the newest); those of them that
        # wait for news, not for figures; and passes that are going on.
        self._waiting: dict[RunKey, float] = {}
        self._urgent: set[RunKey] = set()
        self._passes: dict[RunKey, asyncio.Task[None]] = {}
        self._gate = asyncio.Lock()
        self._timers: dict[RunKey, asyncio.TimerHandle] = {}
        self._failures: dict[RunKey, int] = {}
        self._written: dict[RunKey, float] = {}
        self._started = time.monotonic()
        self._leading = False
        self._said_away = -_LONGEST_BACKOFF_SECONDS

    def touch(self, key: RunKey, *, figures: bool = False) -> None:
        """Something of this run may be new; figures: perhaps only what its coordinator says."""
        if (figures and key in self._waiting) or (self._leading and key in self._urgent):
            return
        # One that waits behind figures is put before them; its other turn finds nothing left to do.
        self._waiting[key] = time.monotonic()
        if not figures:
            self._urgent.add(key)
        if self._leading and key not in self._passes:
            self._queue_of(key).put_nowait(key)

    def lead(self, held: bool) -> None:
        """The Lease came or went."""
        self._leading, self._started = held, time.monotonic()
        if held:
            self._begin()
            return
        for key, task in self._passes.items():
            self.touch(key)  # the first thing to do with the Lease
            task.cancel()

    def _begin(self) -> None:
        """Queue what came up meanwhile, the newest first; what the holder before will have seen goes with the figures,
        where it is in nobody's way."""
        for key in sorted(self._waiting, key=lambda key: -self._waiting[key]):
            if self._waiting[key] < self._started - _UNSEEN_SECONDS:
                self._urgent.discard(key)
            if key not in self._passes:
                self._queue_of(key).put_nowait(key)

    def touch_all(self) -> None:
        """Something that concerns all runs is new; what is new of one alone goes first."""
        for key in list(self._caches.runs):
            self.touch(key, figures=True)

    def _queue_of(self, key: RunKey) -> asyncio.Queue[RunKey]:
        return self._news if key in self._urgent else self._figures

    async def run(self) -> None:
        """Make passes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_room())
            for _ in range(_WORKERS):
                tasks.create_task(self._work(self._news))
                tasks.create_task(self._work(self._figures))

    async def _work(self, queue: asyncio.Queue[RunKey]) -> None:
        while True:
            key = await queue.get()
            await self._until_leader()
            if key in self._passes:  # its end puts it back
                continue
            since = self._waiting.pop(key, None)
            if since is None:
                continue
            self._urgent.discard(key)
            task = asyncio.get_running_loop().create_task(self._guarded(key, max(since, self._started)))
            self._passes[key] = task
            try:
                await asyncio.wait((task,))  # one that is broken off ends no worker
            finally:
                task.cancel()
                del self._passes[key]
                if key in self._waiting:
                    self._queue_of(key).put_nowait(key)

    async def _until_leader(self) -> None:
        """Wait for the Lease."""
        async with self._gate:  # one looks for all
            while not self._leads():
                await asyncio.sleep(_LEASE_SECONDS)

    async def _guarded(self, key: RunKey, since: float) -> None:
        """One pass, whatever comes of it."""
        try:
            again = await self._pass(key, since)
        except Away as error:
            self._failed(key)
            # It is the same for all runs.
            if time.monotonic() - self._said_away >= _LONGEST_BACKOFF_SECONDS:
                self._said_away = time.monotonic()
                _log.warning("tried again later: %s", error, extra={"namespace": key[0], "run": key[1]})
        except Exception:
            self._failed(key)
            _log.exception("the pass failed", extra={"namespace": key[0], "run": key[1]})
        else:
            self._failures.pop(key, None)
            self._metrics.last_pass.set_to_current_time()
            if key in self._caches.runs:
                self._again(key, min(again, _RESYNC_SECONDS * random.uniform(0.8, 1.2)))

    async def _pass(self, key: RunKey, since: float) -> float:
        """Seconds until the next look."""
        run = self._caches.runs.get(key)
        if run is None:
            self.forget(key)
            return _RESYNC_SECONDS
        now = datetime.now(UTC)
        if isinstance(run, InvalidRun):
            return await self._refuse(run, now)
        if self.coordinators is not None:
            self._ask(key)
            # Before it is said that all have gone, what was saved last should be known.
            ends = run.status.phase is Phase.DRAINING and self.coordinators.expects(key)
            if ends or not self._observer.asked(key):
                return _OLD_NEWS_SECONDS  # its answer starts the pass
        observed = replace(self._observer.observe(run, now), refused=self._applier.refused(key))
        with self._metrics.decision_seconds.time():
            decision = decide(observed, now)
        self._applier.settle(key, set(map(verb, decision.actions)))
        again = await self._carry_out(run, decision, since)
        if observed.refused is None and self._applier.refused(key) is not None:
            return _OLD_NEWS_SECONDS  # so that the status says so before long
        return again

    async def _carry_out(self, run: TrainingRun, decision: Decision, since: float) -> float:
        key, status = (run.namespace, run.name), decision.status
        again = decision.look_again.total_seconds() if decision.look_again is not None else _RESYNC_SECONDS
        patch = status_patch.difference(run.status, status)
        if patch and run.status == _NEVER_WRITTEN:
            patch = status_patch.first(status)
        wait = self._written_at(key) + self._interval - time.monotonic()
        resting = status.phase in (Phase.SUSPENDED, Phase.SUCCEEDED, Phase.FAILED)
        if patch and not decision.actions and status_patch.can_wait(patch) and wait > 0 and not resting:
            return again  # with a later answer
        if patch:
            result = await self._applier.write_status(run, patch)
            if result is not Result.DONE:
                return self._undone(key, result)
            self._written[key] = time.monotonic()
        done = []
        for action in decision.actions:
            result = await self._applier.act(run, action)
            done.append(result is Result.DONE)
            if result is Result.DONE:
                self._metrics.latency.observe(time.monotonic() - since)
            elif result is not Result.REFUSED:  # which says nothing of the others
                return self._undone(key, result)
        if decision.actions and not any(done):
            return self._undone(key, Result.REFUSED)
        # What was done changes what there is to do.
        return _OLD_NEWS_SECONDS if decision.actions else again

    def _undone(self, key: RunKey, result: Result) -> float:
        """Seconds until it is tried again."""
        if result is Result.NOT_OURS:
            self.touch(key)  # the first thing to do with the Lease
        return _OLD_NEWS_SECONDS if result is Result.OLD_NEWS else _LONGEST_BACKOFF_SECONDS

    async def _refuse(self, run: InvalidRun, now: datetime) -> float:
        """Say what is wrong with a run that cannot be read."""
        try:
            before = TrainingRunStatus.model_validate(run.status)
        except ValidationError:
            before = TrainingRunStatus()
        after = status_patch.with_condition(
            before,
            kind=ConditionType.READY,
            value="False",
            reason=ConditionReason.INVALID,
            message=run.message,
            generation=run.generation,
            now=now,
        ).model_copy(update={"observed_generation": run.generation})
        patch = status_patch.difference(before, after)
        if patch:
            await self._applier.write_status(run, patch)
        return _RESYNC_SECONDS

    def _ask(self, key: RunKey) -> None:
        assert self.coordinators is not None
        if self._observer.question(key) is not None:
            self.coordinators.want(key)

    def _written_at(self, key: RunKey) -> float:
        """When the figures were written last; after a start, as if in each run's own place of the interval."""
        return self._written.get(key, self._started - self._interval * turn_of(key))

    def _failed(self, key: RunKey) -> None:
        self._metrics.errors.inc()
        count = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(_BACKOFF_SECONDS * 2 ** (count - 1), _LONGEST_BACKOFF_SECONDS)
        self._again(key, wait * random.uniform(0.5, 1.0))

    def _again(self, key: RunKey, seconds: float) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(max(seconds, 0.05), self._due, key)

    def _due(self, key: RunKey) -> None:
        self._timers.pop(key, None)
        self.touch(key)

    def forget(self, key: RunKey) -> None:
        """The run is gone."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        for kept in (self._failures, self._written):
            kept.pop(key, None)
        self._observer.forget(key)
        self._applier.settle(key)
        if self.coordinators is not None:
            self.coordinators.drop(key)

    async def _follow_room(self) -> None:
        """Room comes and goes with pods and nodes that are no run's."""
        seen: Any = None
        while True:
            await asyncio.sleep(_ROOM_SECONDS)
            if self._leads() and not self._caches.runs:
                self._metrics.last_pass.set_to_current_time()
            if seen != self._caches.revision:
                seen = self._caches.revision
                for key in self._observer.follows_capacity():
                    self.touch(key)
