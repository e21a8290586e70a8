"""Events: what was done to a run, for `kubectl describe`.

Their names are made of what they tell, so that the same thing is told once, whoever tells it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from operators.actions import Action, ActionReason, DeleteJob, DeletePod, verb
from operators.api import GROUP, KIND, VERSION, TrainingRun
from operators.backends.backend import Resource
from operators.caches import job_key
from operators.kube import Api, ApiError, Away, OldNews

EVENTS = Resource("", "v1", "events")
COMPONENT = "gpt-run-operator"
# What a person should look at; the rest is the operator's everyday work.
_WARNINGS = {
    ActionReason.OUT_OF_BOUNDS,
    ActionReason.CONFIG_INVALID,
    ActionReason.BUDGET_EXHAUSTED,
    ActionReason.NODE_LOST,
    ActionReason.LAUNCHER_SILENT,
}
_MESSAGE_CHARACTERS = 1000
_SETTLE_SECONDS = 2.0
_log = logging.getLogger(__name__)


class Events:
    """Posts Events about runs."""

    def __init__(self, api: Api, identity: str) -> None:
        self._api = api
        self._identity = identity
        self._telling: set[asyncio.Task[None]] = set()

    def done(self, run: TrainingRun, action: Action) -> None:
        """An action was done."""
        about = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": run.name, "uid": run.uid}
        kind = "Warning" if action.reason in _WARNINGS else "Normal"
        upon = action.uid if isinstance(action, DeletePod | DeleteJob) else action.job_resource_version
        self._tell(self._post(run.namespace, about, kind, action.reason.value, action.message, verb(action), upon))

    def left_alone(self, run: TrainingRun, job_uid: str) -> None:
        """The TrainingRun was deleted; its job stays."""
        job = job_key(run)
        api_version = run.spec.job_ref.api_version
        about = {"apiVersion": api_version, "kind": job.kind.value, "name": job.name, "uid": job_uid}
        message = (
            f"TrainingRun {run.name} was deleted; the {job.kind.value} goes on as it is, and nobody looks after it. "
            f"Make a TrainingRun again, or delete the {job.kind.value}"
        )
        self._tell(self._post(run.namespace, about, "Normal", "TrainingRunDeleted", message, "Forget", run.uid))

    async def settle(self) -> None:
        """At the end: wait for what is being told, a moment."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=_SETTLE_SECONDS)

    def _tell(self, post: Coroutine[None, None, None]) -> None:
        """Beside the work: what was done is told though the Lease was lost meanwhile."""
        task = asyncio.get_running_loop().create_task(post)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _post(
        self, namespace: str, about: dict[str, str], kind: str, reason: str, message: str, action: str, upon: str
    ) -> None:
        digest = hashlib.sha256(f"{about['uid']} {reason} {action} {upon}".encode()).hexdigest()[:16]
        now = datetime.now(UTC)
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about['name'][:200]}.{digest}", "namespace": namespace},
            "involvedObject": {**about, "namespace": namespace},
            "type": kind,
            "reason": reason,
            "action": action,
            "message": message[:_MESSAGE_CHARACTERS],
            "count": 1,
            "firstTimestamp": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "lastTimestamp": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity[:128],
        }
        try:
            await self._api.post(EVENTS.path(namespace), body)
        except OldNews:
            pass  # told already, or the namespace is going
        except (ApiError, Away) as error:
            _log.warning("an Event is lost: %s", error, extra={"namespace": namespace, "reason": reason})
