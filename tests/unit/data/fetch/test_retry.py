"""What is tried again, and when."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import stamina

from trainer.data.fetch.pace import Pace
from trainer.data.fetch.remote import Changed, Cut, StatusError, Unusable
from trainer.data.fetch.retry import Retry, retry_after_seconds


def web_error(status: int, retry_after: str | None = None) -> StatusError:
    return StatusError(status, "", {"Retry-After": retry_after} if retry_after else {})


@pytest.mark.parametrize(
    ("error", "heals"),
    [
        (web_error(503), True),
        (web_error(429, retry_after="7"), 7.0),
        (web_error(503, retry_after="7"), 7.0),
        (web_error(429, retry_after="11"), False),
        (web_error(500, retry_after="7"), True),
        (web_error(503, retry_after="soon"), True),
        (web_error(503, retry_after="²"), True),
        (web_error(404), False),
        (web_error(403), False),
        (ConnectionResetError(), True),
        (Cut("short"), True),
        (TimeoutError(), True),
        (Changed(), False),
        (Unusable("malformed", ""), False),
        (ssl.SSLCertVerificationError("self-signed"), False),
    ],
)
def test_what_heals_and_how_long_to_wait(error: Exception, heals: bool | float) -> None:
    assert Retry(budget_seconds=10).heals(error) == heals


def test_a_date_is_a_time_to_come_back_and_a_past_one_is_now() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=100)
    seconds = retry_after_seconds(web_error(503, retry_after=format_datetime(moment, usegmt=True)))
    assert seconds is not None
    assert 90 < seconds <= 100
    assert retry_after_seconds(web_error(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")) == 0.0


def test_all_transfers_from_a_server_wait_when_it_says_so() -> None:
    pace = Pace(1000)
    Retry(10, clock=lambda: 50.0).heals(web_error(429, retry_after="7"), pace)
    assert pace.reserve(1, 50.0) == 7.0


def test_a_call_is_tried_until_it_succeeds_or_cannot() -> None:
    tries = []

    async def work() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionResetError
        return 42

    async def refuse() -> int:
        tries.append(1)
        raise web_error(404)

    with stamina.set_testing(True, attempts=5):
        assert asyncio.run(Retry(10).call(work)) == 42
        assert len(tries) == 3
        with pytest.raises(StatusError):
            asyncio.run(Retry(10).call(refuse))
    assert len(tries) == 4
