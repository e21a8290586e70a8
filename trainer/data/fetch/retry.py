"""Which errors of a transfer are tried again, when, and for how long.

What may heal is decided by `trainer.storage_errors`; a server that says when to come back (429, 503 with Retry-After)
is obeyed, by all transfers from it. `download`, `upload`, `web` and `listing` use it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import stamina

from trainer.data.fetch.pace import Pace
from trainer.data.fetch.remote import Changed, StatusError, Unusable
from trainer.storage_errors import may_heal

Result = TypeVar("Result")

# Pauses between tries without a word from the server: 0.5 s, doubled up to half a minute, and up to a second of chance.
WAIT = {"wait_initial": 0.5, "wait_max": 30.0, "wait_jitter": 1.0}


class Retry:
    """The rules of one fetch: `budget_seconds` per stretch without progress."""

    def __init__(self, budget_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget_seconds = budget_seconds
        self._clock = clock

    def context(self, pace: Pace | None = None) -> Any:
        """stamina's loop of tries. `pace` is paused when its server names a time to come back."""
        return stamina.retry_context(
            on=lambda error: self.heals(error, pace), attempts=None, timeout=self.budget_seconds, **WAIT
        )

    async def call(self, work: Callable[[], Awaitable[Result]], pace: Pace | None = None) -> Result:
        """Run one idempotent request until it succeeds or the budget is spent."""
        async for attempt in self.context(pace):
            with attempt:
                return await work()
        raise AssertionError("the loop of tries ends by a result or an error")

    def heals(self, error: Exception, pace: Pace | None = None) -> bool | float:
        """Whether to try again; the number of seconds to wait where the server says so."""
        if isinstance(error, (Changed, Unusable, ssl.CertificateError)) or not may_heal(error):
            return False
        wait_seconds = retry_after_seconds(error)
        if wait_seconds is None:
            return True
        if wait_seconds > self.budget_seconds:
            return False
        if pace is not None:
            pace.pause(self._clock() + wait_seconds)
        return wait_seconds


def retry_after_seconds(error: Exception) -> float | None:
    """Seconds that a web server's answer of status 429 or 503 asks to wait; None where it does not say."""
    if not isinstance(error, StatusError) or error.status_code not in (429, 503):
        return None
    value = error.headers.get("Retry-After", "")
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    # RFC 9110, 10.2.3: seconds, or a date.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
