"""Which of two operators acts: the holder of a Lease.

The holder renews every second; one that could not stops acting before others may take the Lease over, by its own
monotonic clock. Others take it when its record has not changed for the whole duration, by theirs: no two clocks are
ever compared. At its end the holder gives the Lease back, so that a roll-out pauses control for less than a second.
`Candidate` is pure; `Lease` asks the API server, on a thread of its own (`lease_thread`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from operators.backends.backend import Resource
from operators.kube import Api, ApiError, Away, OldNews

LEASES = Resource("coordination.k8s.io", "v1", "leases")
DURATION_SECONDS = 4
RENEW_SECONDS = 1.0
# The holder stops so much before others may start: what it has sent by then has been done.
_MARGIN_SECONDS = 0.5
# Others look more often than it renews: they know its last renewal that much better.
_LOOK_SECONDS = 0.5
_REQUEST_SECONDS = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """A Lease as the API server has it; `mark` changes with each renewal."""

    holder: str
    mark: str
    duration_seconds: float = DURATION_SECONDS


class Candidate:
    """One operator's view of the Lease. Times are of its own monotonic clock."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._record: Record | None = None
        self._seen_at = 0.0
        self._held_from: float | None = None

    def seen(self, record: Record, now: float) -> None:
        """What the API server has, now."""
        if self._record is None or record.mark != self._record.mark:
            self._seen_at = now
        self._record = record
        if record.holder != self._identity:
            self._held_from = None

    def renewed(self, record: Record, sent_at: float) -> None:
        """Our own write, sent at that time, was taken."""
        self._record, self._seen_at, self._held_from = record, sent_at, sent_at

    def given_back(self) -> None:
        """Not ours any more, whatever the API server says."""
        self._held_from = None

    def may_take(self, now: float) -> bool:
        """Whether to write ourselves into it."""
        if self._record is None:
            return False
        return self._record.holder in ("", self._identity) or now >= self.free_at()

    def free_at(self) -> float:
        """When the record has not changed for so long that its holder has stopped."""
        return self._seen_at + (self._record.duration_seconds if self._record is not None else 0.0)

    def holds(self, now: float) -> bool:
        """Whether we may act. Asked on other threads, too."""
        return now < self.held_until()

    def held_until(self) -> float:
        """When we have to stop unless it is renewed before."""
        held_from = self._held_from
        return -math.inf if held_from is None else held_from + DURATION_SECONDS - _MARGIN_SECONDS


class Lease:
    """Competes for the Lease until told to give it back."""

    def __init__(self, api: Api, namespace: str, name: str, identity: str, changed: Callable[[bool], None]) -> None:
        """changed: told of each start and end of holding it."""
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._changed = changed
        self._candidate = Candidate(identity)
        self._object: dict[str, Any] | None = None
        self._told = False
        self._said = ""
        self._turns = asyncio.Lock()
        self._over = False

    def holds(self) -> bool:
        """Whether we may act at this moment."""
        return self._candidate.holds(time.monotonic())

    async def run(self) -> None:
        """Compete until it is given back."""
        while True:
            trouble = ""
            try:
                async with self._turns:
                    if self._over:
                        return
                    async with asyncio.timeout(self._patience()):
                        await self._turn()
            except (ApiError, Away, TimeoutError) as error:
                trouble = str(error) or "no answer"
                self._object = None
            if trouble and trouble != self._said:
                _log.warning("the Lease %s/%s: %s", self._namespace, self._name, trouble)
            self._said = trouble
            self._tell()
            await asyncio.sleep(self._pause(bool(trouble)))
            self._tell()

    async def give_back(self) -> None:
        """At the end: let another one start at once."""
        self._over = True
        async with self._turns:  # a renewal on its way would make it ours again
            held = self.holds()
            self._candidate.given_back()
            self._tell()
            if held and self._object is not None:
                try:
                    await self._write("")
                except (ApiError, Away) as error:
                    _log.warning("the Lease is not given back: %s", error)

    def _pause(self, trouble: bool) -> float:
        held = self._candidate.held_until() - time.monotonic()
        if held > 0:
            return min(RENEW_SECONDS / 2 if trouble else RENEW_SECONDS, held)  # its end is told at once
        left = self._candidate.free_at() - time.monotonic()
        return min(_LOOK_SECONDS, left) if left > 0 else _LOOK_SECONDS / 5

    def _patience(self) -> float | None:
        """Seconds that a turn may take: that it is lost must not be told late."""
        held = self._candidate.held_until() - time.monotonic()
        return held if held > 0 else None

    def _tell(self) -> None:
        held = self.holds()
        if held != self._told:
            self._told = held
            _log.info("%s: %s", self._identity, "holds the Lease and acts" if held else "stands by")
            self._changed(held)

    async def _turn(self) -> None:
        if not self.holds() or self._object is None:
            await self._look()
        if self._object is not None and self._candidate.may_take(time.monotonic()):
            await self._write(self._identity)

    async def _look(self) -> None:
        try:
            found = await self._api.get(LEASES.path(self._namespace, self._name), timeout_seconds=_REQUEST_SECONDS)
        except OldNews:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name},
                "spec": {"leaseDurationSeconds": DURATION_SECONDS},
            }
            found = await self._api.post(LEASES.path(self._namespace), body, timeout_seconds=_REQUEST_SECONDS)
        self._object = found
        self._candidate.seen(_record(found), time.monotonic())

    async def _write(self, holder: str) -> None:
        """Conditional on what was seen: of two that try, one succeeds."""
        assert self._object is not None
        spec = self._object.get("spec") or {}
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        taken = spec.get("holderIdentity") != holder
        change: dict[str, Any] = {"holderIdentity": holder, "renewTime": now, "leaseDurationSeconds": DURATION_SECONDS}
        if taken and holder:
            change |= {"acquireTime": now, "leaseTransitions": (spec.get("leaseTransitions") or 0) + 1}
        body = {"metadata": {"resourceVersion": self._object["metadata"]["resourceVersion"]}, "spec": change}
        sent_at = time.monotonic()
        try:
            self._object = await self._api.patch(
                LEASES.path(self._namespace, self._name), body, timeout_seconds=_REQUEST_SECONDS
            )
        except OldNews:
            self._object = None
            return
        if holder:
            self._candidate.renewed(_record(self._object), sent_at)


def _record(found: dict[str, Any]) -> Record:
    spec = found.get("spec") or {}
    mark = f"{spec.get('holderIdentity')} {spec.get('renewTime')} {spec.get('leaseTransitions')}"
    return Record(spec.get("holderIdentity") or "", mark, spec.get("leaseDurationSeconds") or DURATION_SECONDS)
