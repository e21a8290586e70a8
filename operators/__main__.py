"""`python -m operators`: looks after TrainingRuns until SIGTERM.

Two replicas run; the one that holds the Lease acts, the other one keeps its caches and the coordinators' answers warm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys

from operators import crd, logs
from operators.api import TrainingRun
from operators.apply import Applier
from operators.caches import Caches, job_key
from operators.coordinators import Coordinators, Outcome
from operators.crd_age import SCHEMAS, missing_fields
from operators.events import Events
from operators.kube import Api, ApiError, Away, LoginError
from operators.lease_thread import LeaseThread
from operators.loop import Loop
from operators.metrics import Metrics, serve
from operators.observe import Observer
from operators.observed import Coordinator
from operators.records import RunKey
from operators.settings import Settings, from_arguments
from operators.watches import Watches

# An answer older than this many intervals counts for nothing.
_FRESH_POLLS = 2.5
_CRD_AGAIN_SECONDS = 30.0
_log = logging.getLogger("operators")


def main() -> int:
    """The process; its exit code."""
    settings = from_arguments()
    logs.configure(settings.log_format)
    try:
        asyncio.run(_until_told(settings))
    except LoginError as error:
        _log.error("%s", error)
        return 2
    return 0


async def _until_told(settings: Settings) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with Api() as api:
        operator = Operator(api, settings)
        running = asyncio.create_task(operator.run())
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        await operator.lease.give_back()
        waiting.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


class Operator:
    """The parts, put together."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self._api = api
        self._settings = settings
        self.metrics = Metrics()
        self._caches = Caches(self._changed)
        self._watches = Watches(api, self._caches, settings.namespace, self._kinds_changed)
        self.lease = LeaseThread(settings.lease_namespace, settings.lease_name, settings.identity, self._leads_now)
        self._observer = Observer(
            self._caches,
            self._watches.serves,
            namespace=settings.namespace,
            coordinator_url=settings.coordinator_url,
            silent_after_seconds=settings.poll_seconds * _FRESH_POLLS,
        )
        self._events = Events(api, settings.identity)
        applier = Applier(api, self._caches, self._events, self.metrics, self.lease.holds)
        self._loop = Loop(
            self._caches,
            self._observer,
            applier,
            self.metrics,
            leads=self._leads,
            status_interval_seconds=settings.status_interval_seconds,
        )
        self._known: dict[RunKey, TrainingRun] = {}
        self.metrics.follow(self._caches, self.lease.holds)

    async def run(self) -> None:
        """Until cancelled."""
        runner, port = await serve(self.metrics, self._settings.metrics_port, self._healthy)
        _log.info("metrics and health on port %d", port)
        coordinators = Coordinators(self._settings.poll_seconds, self._observer.question, self._heard, self._count)
        self._loop.coordinators = coordinators
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watches.run())
                tasks.create_task(self._compare_definitions())
                tasks.create_task(self._act())
        finally:
            await coordinators.close()
            await self._events.settle()
            await runner.cleanup()

    async def _act(self) -> None:
        """Compete for the Lease only with caches that are full."""
        while not self._watches.synced:
            await asyncio.sleep(0.05)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.lease.run())
            tasks.create_task(self._loop.run())

    def _healthy(self) -> bool:
        """Everything was seen once, and goes on being seen."""
        return self._watches.synced and self._watches.alive

    def _leads(self) -> bool:
        return self.lease.holds()

    def _kinds_changed(self) -> None:
        self._loop.touch_all()

    def _leads_now(self, held: bool) -> None:
        self.metrics.leader.set(held)
        self._loop.lead(held)

    def _changed(self, key: RunKey, pods: bool) -> None:
        """The caches have news of a run."""
        run = self._caches.runs.get(key)
        coordinators = self._loop.coordinators
        if coordinators is not None:
            if run is not None and self._observer.question(key) is not None:
                coordinators.want(key)
            if pods:
                coordinators.soon(key)
        if isinstance(run, TrainingRun):
            self._known[key] = run
        elif run is None:
            self._gone(key)
        self._loop.touch(key)

    def _gone(self, key: RunKey) -> None:
        """A TrainingRun was deleted: its job goes on, and somebody should know."""
        run = self._known.pop(key, None)
        self._loop.forget(key)
        record = self._caches.jobs.get(job_key(run)) if run is not None else None
        if run is not None and record is not None and record.job.finished is None and self._leads():
            self._events.left_alone(run, record.job.uid)

    def _heard(self, key: RunKey, coordinator: Coordinator | None) -> None:
        self._observer.heard(key, coordinator)
        self._loop.touch(key, figures=True)

    def _count(self, outcome: Outcome) -> None:
        self.metrics.polls.labels(outcome.value).inc()

    async def _compare_definitions(self) -> None:
        """Say once whether the cluster's TrainingRun is older than this operator's."""
        while True:
            try:
                served = await self._api.get(SCHEMAS)
                break
            except (ApiError, Away):
                await asyncio.sleep(_CRD_AGAIN_SECONDS)
        missing = missing_fields(served, crd.document())
        self.metrics.missing_fields.set(len(missing))
        if missing:
            _log.warning(
                "the cluster's CustomResourceDefinition trainingruns.gptrun.io lacks %s: what they say is lost. "
                "Apply the one of charts/gpt-platform of this version; the operator goes on without them",
                ", ".join(missing),
            )


if __name__ == "__main__":
    sys.exit(main())
