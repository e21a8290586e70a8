"""Asks the coordinators of runs for their `/status`, evenly spread over the interval, and at once when pods change.

What answers lives in the runs' namespaces and may be anything: answers are limited in time and size, redirects are not
followed, and what is no status is an outcome, not an error.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import aiohttp
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from operators.api import CheckpointStatus
from operators.observed import Coordinator, Error
from operators.records import RunKey, turn_of
from trainer.elastic.reasons import Reason

# 1,024 members are 150 kB.
LARGEST_BYTES = 1_000_000
_TIMEOUT = aiohttp.ClientTimeout(total=3, sock_connect=2)
_AT_ONCE = 64
# When the loop is so late with a question, what is waiting for its time is more urgent: every other one is left out. An
# answer stays fresh for longer than two turns.
_LATE_SECONDS = 1.0
# Pods change in bursts; a question after each would be one too many.
_SOON_SECONDS = 0.5
_MESSAGE_CHARACTERS = 2000


class Outcome(StrEnum):
    """How a question ended: `gptrun_operator_coordinator_polls_total{outcome}`."""

    ANSWERED = "answered"
    SILENT = "silent"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    TOO_LARGE = "too_large"
    INVALID = "invalid"


@dataclass(frozen=True)
class Question:
    """Whom to ask, and who that is."""

    url: str
    pod_uid: str


class Coordinators:
    """Asks each wanted run's coordinator; `heard` gets the answers, None for none."""

    def __init__(
        self,
        interval_seconds: float,
        question: Callable[[RunKey], Question | None],
        heard: Callable[[RunKey, Coordinator | None], None],
        count: Callable[[Outcome], None],
    ) -> None:
        """question: whom to ask for a run; None: nobody, now."""
        self._interval = interval_seconds
        self._question = question
        self._heard = heard
        self._count = count
        self._timers: dict[RunKey, asyncio.TimerHandle] = {}
        self._tasks: dict[RunKey, asyncio.Task[None]] = {}
        self._asked: set[RunKey] = set()
        """Runs that were asked in their last turn, and can be left out of this one."""
        self._gate = asyncio.Semaphore(_AT_ONCE)
        # Coordinators close after each answer; their addresses seldom change.
        connector = aiohttp.TCPConnector(limit=_AT_ONCE, force_close=True, ttl_dns_cache=60)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)

    async def close(self) -> None:
        """Ask no more."""
        for key in list(self._timers):
            self.drop(key)
        for task in list(self._tasks.values()):
            task.cancel()
        await self._session.close()

    def want(self, key: RunKey) -> None:
        """Ask this run's from now on: the first time soon, in its own place of the interval from then on."""
        if key not in self._timers and key not in self._tasks:
            self._in(key, _SOON_SECONDS * turn_of(key))

    def soon(self, key: RunKey) -> None:
        """Something happened to its pods: ask now."""
        timer = self._timers.get(key)
        if timer is not None and timer.when() - asyncio.get_running_loop().time() > _SOON_SECONDS:
            self._asked.discard(key)
            self._in(key, _SOON_SECONDS)

    def expects(self, key: RunKey) -> bool:
        """Whether an answer will be there in a moment."""
        timer = self._timers.get(key)
        soon = timer is not None and timer.when() - asyncio.get_running_loop().time() <= _SOON_SECONDS
        return soon or key in self._tasks

    def drop(self, key: RunKey) -> None:
        """Ask this one no more."""
        self._asked.discard(key)
        self._cancel(key)

    def _cancel(self, key: RunKey) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _in(self, key: RunKey, seconds: float) -> None:
        self._cancel(key)
        due = asyncio.get_running_loop().time() + seconds
        self._timers[key] = asyncio.get_running_loop().call_at(due, self._start, key, due)

    def _start(self, key: RunKey, due: float) -> None:
        self._timers.pop(key, None)
        if asyncio.get_running_loop().time() - due > _LATE_SECONDS and key in self._asked:
            self._asked.discard(key)
            self._next_turn(key)
            return
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._poll(key))

    async def _poll(self, key: RunKey) -> None:
        try:
            question = self._question(key)
            if question is not None:
                async with self._gate:
                    outcome, coordinator = await self.ask(question)
                self._count(outcome)
                self._asked.add(key)
                self._heard(key, coordinator)
        finally:
            self._tasks.pop(key, None)
            if self._question(key) is not None:
                self._next_turn(key)

    def _next_turn(self, key: RunKey) -> None:
        now = asyncio.get_running_loop().time()
        turns = math.floor((now - self._interval * turn_of(key)) / self._interval) + 1
        self._in(key, self._interval * (turns + turn_of(key)) - now)

    async def ask(self, question: Question) -> tuple[Outcome, Coordinator | None]:
        """One question."""
        try:
            async with self._session.get(question.url, allow_redirects=False) as answer:
                if answer.status != 200:
                    return Outcome.REFUSED, None
                body = bytearray()
                async for piece in answer.content.iter_chunked(65536):
                    body += piece
                    if len(body) > LARGEST_BYTES:
                        return Outcome.TOO_LARGE, None
            return Outcome.ANSWERED, parse(body, datetime.now(UTC), question.pod_uid)
        except TimeoutError:
            return Outcome.TIMEOUT, None
        except (aiohttp.ClientError, OSError):
            return Outcome.SILENT, None
        except (ValueError, ValidationError, RecursionError):
            return Outcome.INVALID, None


# What is read of /status ----------------------------------------------------------------------------------------------


_DIGITS = 5


def _figure(value: Any) -> Any:
    """As people read it, for kubectl prints all digits; a loss that is no number has no place in JSON."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


# What the API server takes for a number and, with room to spare, for a name and a URL.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(max_length=253)]
Url = Annotated[str, Field(max_length=4096)]
Figure = Annotated[float | None, BeforeValidator(_figure)]


class _Member(BaseModel):
    host: Name
    last_seen_seconds: float = 0.0


class _Error(BaseModel):
    exit_code: int = 1
    reason: str | None = None
    message: str = ""
    time: datetime | None = None


class _Checkpoint(BaseModel):
    name: Name
    step: Count
    time: datetime | None = None
    url: Url | None = None


class _Document(BaseModel):
    phase: str
    attempt: Count | Annotated[str, Field(pattern=r"^a\d{1,9}$")] | None = None
    step: Count | None = None
    steps_total: Count | None = None
    loss: Figure = None
    tokens_per_second: Figure = None
    mfu_ratio: Figure = None
    members: list[_Member] = Field(default=[], max_length=10_000)
    restarts: dict[str, Count] = {}
    goodput_seconds: dict[str, float] | None = None
    last_checkpoint: _Checkpoint | None = None
    eta_time: datetime | None = None
    last_error: _Error | None = None


def parse(body: bytes | bytearray, asked_at: datetime, pod_uid: str) -> Coordinator:
    """Of an answer. ValueError or ValidationError for what is no status."""
    found = _Document.model_validate(json.loads(body))
    error, checkpoint = found.last_error, found.last_checkpoint
    return Coordinator(
        asked_at=asked_at,
        pod_uid=pod_uid,
        phase=found.phase[:40],
        members={member.host: member.last_seen_seconds for member in found.members},
        restarts={reason[:40]: count for reason, count in list(found.restarts.items())[:50]},
        last_error=None if error is None else _error(error),
        step=found.step,
        steps_total=found.steps_total,
        loss=found.loss,
        tokens_per_second=found.tokens_per_second,
        mfu=found.mfu_ratio,
        goodput=_goodput(found.goodput_seconds),
        last_checkpoint=None
        if checkpoint is None
        else CheckpointStatus(
            name=checkpoint.name, step=checkpoint.step, time=_utc(checkpoint.time), url=checkpoint.url or ""
        ),
        attempt=_number(found.attempt),
        estimated_completion=_utc(found.eta_time),
    )


def _error(found: _Error) -> Error:
    known = found.reason in Reason.__members__.values()
    reason = Reason(found.reason) if known and found.reason is not None else None
    return Error(found.exit_code, reason, found.message[:_MESSAGE_CHARACTERS], _utc(found.time))


def _goodput(seconds: dict[str, float] | None) -> float | None:
    """Training's share of all time; None before there is any."""
    total = sum(seconds.values()) if seconds else 0.0
    return round(seconds.get("training", 0.0) / total, 4) if seconds and total > 0 and math.isfinite(total) else None


def _number(attempt: int | str | None) -> int | None:
    """a0003 is 3."""
    if isinstance(attempt, str):
        return int(attempt.lstrip("a"))
    return attempt


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
