"""Watches by kopf: `on.event` handlers alone, one kopf operator for each kind, on a thread of its own.

Of kopf's machinery nothing else is used, so nothing is written to objects: no finalizers, annotations, peering or
posted events. Threads: a kind whose definition is missing, or which may not be listed, stops no other one, and
decisions, polls and the Lease never wait for a parser. `Watches` runs them and keeps the caches free of what a watch
could not see go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import kopf

from operators.api import JobKind
from operators.backends import BACKENDS
from operators.backends.backend import Resource
from operators.caches import Caches, Record, identity
from operators.kinds import NODES, Kind, kinds
from operators.kopf_settings import kopf_settings
from operators.kube import Api, ApiError, Away, Forbidden, login

# A kind that is missing is looked for again after so long; one whose watch failed is watched again. What may be an API
# server that has only just started (no such kind, no such right) is asked a second time before it is believed.
_AGAIN_SECONDS, _RESTART_SECONDS = 20.0, 2.0
# A watch's thread says that it lives so often; when it has not for so long, the process is no good any more.
_BEAT_SECONDS, _DEAD_SECONDS = 2.0, 60.0
# Objects that went while a watch was interrupted are found so often; and so soon after a new list was seen.
_SWEEP_SECONDS, _LISTED_SECONDS = 300.0, 1.0
# At the start: how often it is looked whether all has been seen.
_LOOK_SECONDS = 0.05
_log = logging.getLogger(__name__)


class Watches:
    """Keeps the caches as the cluster is."""

    def __init__(self, api: Api, caches: Caches, namespace: str, kinds_changed: Callable[[], None]) -> None:
        """kinds_changed: told when the cluster has come to know a kind, or has forgotten it."""
        self._api = api
        self._kinds_changed = kinds_changed
        self._caches = caches
        self._namespace = namespace
        self._loop = asyncio.get_running_loop()
        self._served: dict[Resource, bool] = {}
        self._synced: set[Resource] = set()
        self._full = False
        self._listed: dict[Resource, asyncio.Event] = {}
        self._beats: dict[Resource, float] = {}
        """When each kind's watch was last known to be alive, or its task to be busy beginning another one."""
        self._skipped: set[str] = set()
        """UIDs of objects that are no use."""

    def serves(self, kind: JobKind) -> bool:
        """Whether the cluster knows this kind of job."""
        return self._served.get(BACKENDS[kind].resource, True)

    @property
    def synced(self) -> bool:
        """Whether everything that was there at the start has been seen: before, an absent object may only be late."""
        self._full = self._full or all(
            kind.resource in self._synced or not self._served.get(kind.resource, True) for kind in kinds()
        )
        return self._full

    @property
    def alive(self) -> bool:
        """Whether no watch's thread has died or hangs: what it was to tell would not be missed otherwise."""
        now = time.monotonic()
        return all(now - beat < _DEAD_SECONDS for beat in self._beats.values())

    def _beat(self, kind: Kind) -> None:
        self._beats[kind.resource] = time.monotonic()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for kind in kinds():
                self._beat(kind)
                self._listed[kind.resource] = asyncio.Event()
                tasks.create_task(self._watch(kind))
                tasks.create_task(self._sweep(kind))

    async def _watch(self, kind: Kind) -> None:
        """One kind: look whether it is there, watch it until the watch fails, and again."""
        said = ""
        while True:
            trouble, wait = "", _AGAIN_SECONDS
            self._beat(kind)
            try:
                if await self._is_served(kind):
                    # kopf would not say which right it lacks.
                    namespace = self._namespace if kind.namespaced else ""
                    await self._api.get(kind.resource.path(namespace), limit="1")
                    await self._kopf(kind)
                    wait = _RESTART_SECONDS
            except Forbidden as error:
                trouble = f"{kind.resource.plural} are not seen: {error}"
                wait = _AGAIN_SECONDS if trouble == said else _RESTART_SECONDS
            except (ApiError, Away) as error:
                trouble, wait = str(error), _RESTART_SECONDS
            if trouble and trouble != said:
                _log.error(trouble, extra={"kind": kind.resource.plural})
            said = trouble
            self._beat(kind)
            await asyncio.sleep(wait)

    async def _is_served(self, kind: Kind) -> bool:
        """Ask, and tell what is new."""
        served = await self._api.served(kind.resource)
        if not served and self._served.get(kind.resource, False):
            await asyncio.sleep(_RESTART_SECONDS)
            served = await self._api.served(kind.resource)
        if self._served.get(kind.resource) != served:
            self._served[kind.resource] = served
            if not served:
                _log.warning("the cluster knows no %s; looked for now and then", kind.resource.plural)
                self._caches.sweep(set(), kind.records(self._caches), datetime.now(UTC))
            self._kinds_changed()
        return served

    async def _kopf(self, kind: Kind) -> None:
        """Until the watch fails, or the kind is gone: watches go on for long after their kind's definition."""
        ended = asyncio.Event()
        stop: asyncio.Event | None = None
        loop: asyncio.AbstractEventLoop | None = None

        async def operator() -> None:
            nonlocal stop, loop
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            # kopf leaves tasks behind when it fails to start; how the watch ended is told below.
            loop.set_exception_handler(_left_behind)
            beats = asyncio.create_task(self._keep_beating(kind))
            try:
                await kopf.operator(
                    registry=self._registry(kind),
                    settings=kopf_settings(),
                    standalone=True,
                    stop_flag=stop,
                    **_scope(self._namespace if kind.namespaced else ""),
                )
            finally:
                beats.cancel()

        def body() -> None:
            try:
                asyncio.run(operator())
            except Exception as error:
                _log.warning("the watch of %s ended: %r", kind.resource.plural, error)
            finally:
                with contextlib.suppress(RuntimeError):  # the process is ending
                    self._loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=body, name=f"watch {kind.resource.plural}", daemon=True).start()
        try:
            while not await _set_within(_AGAIN_SECONDS, ended):
                with contextlib.suppress(ApiError, Away):
                    if not await self._is_served(kind):
                        break
        finally:
            if not ended.is_set() and loop is not None and stop is not None:
                with contextlib.suppress(RuntimeError):  # it has ended, and its word of that is on its way
                    loop.call_soon_threadsafe(stop.set)

    async def _keep_beating(self, kind: Kind) -> None:
        """On the watch's own thread."""
        while True:
            self._beat(kind)
            await asyncio.sleep(_BEAT_SECONDS)

    def _registry(self, kind: Kind) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        resource = kind.resource

        async def seen(*, event: kopf.RawEvent, **_: Any) -> None:
            body: dict[str, Any] = dict(event["object"])
            try:
                record = kind.record(body)
            except Exception as error:  # whatever somebody has put there
                meta = body.get("metadata") or {}
                about = {"namespace": meta.get("namespace"), "kind": resource.plural}
                _log.warning("%s is not understood: %r", meta.get("name"), error, extra=about)
                self._skipped.add(str(meta.get("uid")))
                return
            self._loop.call_soon_threadsafe(self._take, kind, event["type"], record)

        kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)(seen)
        kopf.on.login(registry=registry)(login)
        return registry

    def _take(self, kind: Kind, event: str | None, record: Record) -> None:
        if event == "DELETED":
            self._caches.remove(record, datetime.now(UTC))
            return
        self._caches.put(record)
        if event is None:  # out of a list
            self._listed[kind.resource].set()

    async def _sweep(self, kind: Kind) -> None:
        """After each list, and now and then: drop what is no longer there."""
        await self._until_synced(kind)
        listed = self._listed[kind.resource]
        while True:
            if await _set_within(_SWEEP_SECONDS, listed):
                await asyncio.sleep(_LISTED_SECONDS)
            listed.clear()
            await self._compare(kind)

    async def _until_synced(self, kind: Kind) -> None:
        """Until all that was there at the first look has been seen, or has gone. What has come since is not waited for:
        where pods come and go all the time, some are always on their way here."""
        listed = self._listed[kind.resource]
        missing: set[str] | None = None
        while missing is None or missing:
            await _set_within(_LISTED_SECONDS, listed)
            listed.clear()
            present = await self._compare(kind)
            missing = present if missing is None else missing & present
            look_again = time.monotonic() + _LISTED_SECONDS
            while (missing := missing - self._here(kind)) and time.monotonic() < look_again:
                await asyncio.sleep(_LOOK_SECONDS)
        _log.info("%d %s", len(present), kind.resource.plural)
        self._synced.add(kind.resource)

    def _here(self, kind: Kind) -> set[str]:
        """What a watch has told of."""
        return {identity(record) for record in kind.records(self._caches)} | self._skipped

    async def _compare(self, kind: Kind) -> set[str]:
        """Drop what is no longer there, once the API server says what is; that is the answer."""
        while True:
            if not self._served.get(kind.resource, False):
                await asyncio.sleep(0.1)
                continue
            try:
                # What comes while the list is on its way is not in it.
                before = list(kind.records(self._caches))
                uids = await self._api.identities(kind.resource, self._namespace if kind.namespaced else "")
                break
            except (ApiError, Away) as error:
                level = logging.WARNING if kind.resource in self._synced else logging.INFO
                _log.log(level, "%s are not compared: %s", kind.resource.plural, error)
                await asyncio.sleep(_RESTART_SECONDS)
        present = set(uids) if kind.resource != NODES else set(uids.values())
        lost = self._caches.sweep(present, before, datetime.now(UTC))
        if lost:
            _log.info("%d %s went unseen", lost, kind.resource.plural)
        return present


async def _set_within(seconds: float, event: asyncio.Event) -> bool:
    """Whether it is set by then. `asyncio.wait_for` of Python 3.11 loses a cancellation that comes at that moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _left_behind(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio has to say of a watch's tasks that nobody waits for."""
    _log.debug("a task of a watch: %s: %r", context["message"], context.get("exception"))


def _scope(namespace: str) -> dict[str, Any]:
    return {"namespaces": [namespace]} if namespace else {"clusterwide": True}
