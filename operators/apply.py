"""Does what `decide` wants: writes the status, then the actions, then tells of each by an Event.

Every write is conditional on what it was decided upon, and goes out only while this replica holds the Lease. An object
that has changed since (409) or is gone (404) ends the pass: a newer event starts another, over newer facts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from enum import StrEnum
from functools import partial
from typing import Any

from operators.actions import Action, DeleteJob, DeletePod, Resume, Scale, Suspend, verb
from operators.api import TrainingRun
from operators.backends import BACKENDS
from operators.backends.backend import JobRecord, Patch
from operators.caches import Caches, job_key
from operators.events import Events
from operators.kinds import PODS, RUNS
from operators.kube import Api, ApiError, Forbidden, OldNews
from operators.metrics import Metrics
from operators.observed import Refused
from operators.records import InvalidRun, RunKey, run_record

# A pod that is replaced, not lost, may still say goodbye; its launcher says nothing any more.
_GRACE_SECONDS = 5
_log = logging.getLogger(__name__)


class Result(StrEnum):
    """How a write ended."""

    DONE = "done"
    OLD_NEWS = "old_news"
    REFUSED = "refused"
    NOT_OURS = "not_ours"


class Applier:
    """Writes to the API server."""

    def __init__(self, api: Api, caches: Caches, events: Events, metrics: Metrics, holds: Callable[[], bool]) -> None:
        """holds: whether this replica may act at this moment."""
        self._api = api
        self._caches = caches
        self._events = events
        self._metrics = metrics
        self._holds = holds
        self._refused: dict[RunKey, Refused] = {}
        self._said: set[str] = set()

    def refused(self, key: RunKey) -> Refused | None:
        """What the API server did not let it do for a run; None: nothing that is still to be done."""
        return self._refused.get(key)

    def settle(self, key: RunKey, wanted: Collection[str] = ()) -> None:
        """Forget a refusal of what is not wanted any more; wanted: verbs."""
        if key in self._refused and self._refused[key].action not in wanted:
            del self._refused[key]

    async def write_status(self, run: TrainingRun | InvalidRun, patch: dict[str, Any]) -> Result:
        """One merge patch of the status subresource. Away where nobody answers."""
        body = {"metadata": {"resourceVersion": run.resource_version}, "status": patch}
        path = RUNS.path(run.namespace, run.name, "status")
        result, answer = await self._send(run, "patch", path, partial(self._api.patch, path, body))
        if result is Result.DONE:
            self._metrics.status_writes.inc()
            self._caches.put(run_record(answer), known=True)
        return result

    async def act(self, run: TrainingRun, action: Action) -> Result:
        """One action and its Event. Away where nobody answers."""
        record = self._caches.jobs.get(job_key(run))
        if record is None:
            return Result.OLD_NEWS
        if isinstance(action, DeleteJob) and not await self._still_wished(run):
            result = Result.OLD_NEWS
        else:
            result = await self._act(run, record, action)
        key, name = (run.namespace, run.name), verb(action)
        about = {"namespace": run.namespace, "run": run.name, "action": name, "reason": action.reason.value}
        if result is Result.DONE:
            _log.info(action.message, extra=about)
            self._metrics.actions.labels(name, action.reason.value).inc()
            if key in self._refused and self._refused[key].action == name:
                del self._refused[key]
            self._events.done(run, action)
        elif result is Result.OLD_NEWS:
            _log.info("left undone, for something has changed: %s", action.message, extra=about)
        return result

    async def _still_wished(self, run: TrainingRun) -> bool:
        """Whether the TrainingRun is the one that was decided upon. The job's own version says nothing of that, and
        somebody may just have asked to keep it."""
        try:
            found = run_record(await self._api.get(RUNS.path(run.namespace, run.name)))
        except OldNews:
            return False
        self._caches.put(found, known=True)
        same = (found.uid, found.generation) == (run.uid, run.generation)
        return same and isinstance(found, TrainingRun) and not found.deleting

    async def _act(self, run: TrainingRun, record: JobRecord, action: Action) -> Result:
        backend = BACKENDS[record.job.kind]
        if isinstance(action, Scale):
            return await self._patch(run, record, action, backend.scale(record, action.replicas, upon(action)))
        if isinstance(action, Suspend | Resume):
            mark = action.mark if isinstance(action, Suspend) else None
            return await self._patch(run, record, action, backend.suspend(record, mark, upon(action)))
        if isinstance(action, DeletePod):
            path = PODS.path(run.namespace, action.pod)
            options = {
                "gracePeriodSeconds": 0 if action.force else _GRACE_SECONDS,
                "preconditions": _preconditions(action.uid, action.resource_version),
            }
        else:
            path = backend.resource.path(run.namespace, record.key.name)
            options = {
                "propagationPolicy": "Background",
                "preconditions": _preconditions(action.uid, action.job_resource_version),
            }
        result, _ = await self._send(run, "delete", path, partial(self._api.delete, path, options), verb(action))
        if result is Result.DONE and isinstance(action, DeletePod):
            self._caches.marked(action.uid)
        return result

    async def _patch(self, run: TrainingRun, record: JobRecord, action: Action, patches: list[Patch]) -> Result:
        for patch in patches:
            path = patch.resource.path(run.namespace, patch.name)
            result, answer = await self._send(
                run,
                "patch",
                path,
                partial(self._api.patch, path, patch.body, patch.content_type),
                verb(action),
            )
            if result is not Result.DONE:
                return result
        self._caches.put(BACKENDS[record.job.kind].record(answer), known=True)
        return Result.DONE

    async def _send(
        self, run: TrainingRun | InvalidRun, what: str, path: str, send: Callable[[], Any], action: str = ""
    ) -> tuple[Result, Any]:
        if not self._holds():
            return Result.NOT_OURS, None
        try:
            return Result.DONE, await send()
        except OldNews:
            return Result.OLD_NEWS, None
        except ApiError as error:
            lacks_right = isinstance(error, Forbidden)
            if lacks_right:
                message = (
                    f"The operator may not {what} {path}: {error}. Give its service account this verb "
                    "(charts/gpt-platform has the ClusterRole)."
                )
            else:
                message = f"The API server refuses what the operator is to do ({action or 'status'}): {error}"
            self._metrics.errors.inc()
            self._say(message, run)
            if action:
                self._refused[run.namespace, run.name] = Refused(action, lacks_right, message)
        return Result.REFUSED, None

    def _say(self, message: str, run: TrainingRun | InvalidRun) -> None:
        """Once: a pass is tried again and again."""
        if message not in self._said and len(self._said) < 1000:
            self._said.add(message)
            _log.error(message, extra={"namespace": run.namespace, "run": run.name})


def upon(action: Action) -> str:
    """The job's resource version that an action was decided upon."""
    assert not isinstance(action, DeletePod | DeleteJob)
    return action.job_resource_version


def _preconditions(uid: str, resource_version: str) -> dict[str, str]:
    """Of a deletion: the object that was seen, and as it was seen."""
    return {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
