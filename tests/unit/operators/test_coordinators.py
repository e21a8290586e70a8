"""Questions to coordinators, over HTTP to servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from operators.coordinators import LARGEST_BYTES, Coordinators, Outcome, Question, parse
from operators.observed import Coordinator
from operators.records import RunKey
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import Member, Round, Rules, Seen, Wait
from trainer.elastic.status import RunStatus

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def document(**fields: Any) -> bytes:
    return json.dumps({"phase": "training", **fields}).encode()


def test_what_a_real_coordinator_says() -> None:
    status = RunStatus()
    member = Member("id", "demo-worker-0", slots=2, since=0.0, seen_at=9.0)
    seen = Seen(hold_until=0.0, rules=Rules(), members={"id": member}, round=Round("r", 1, ("id",)))
    status.look_at("demo", seen, Wait(""), now=10.0)
    status.report({"step": 5, "steps_total": 10, "loss": 2.5, "attempt": "a0003", "mfu_ratio": 0.41})
    status.report({"goodput_seconds": {"training": 30.0, "init": 10.0}})
    status.error(2, "ConfigInvalid", "error: no such key")
    status.round_formed("NodeLost")
    found = parse(json.dumps(status.document()).encode(), NOW, "uid")
    assert found.members == {"demo-worker-0": 1.0}
    assert (found.step, found.steps_total, found.loss, found.attempt) == (5, 10, 2.5, 3)
    assert (found.goodput, found.restarts) == (0.75, {"NodeLost": 1})
    assert found.last_error is not None
    assert (found.last_error.exit_code, found.last_error.reason) == (2, Reason.CONFIG_INVALID)
    assert found.last_error.time is not None


def test_figures_that_are_no_numbers_are_none() -> None:
    found = parse(b'{"phase": "training", "loss": NaN, "tokens_per_second": Infinity}', NOW, "")
    assert (found.loss, found.tokens_per_second) == (None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"training"',
        b"{}",
        b'{"phase": 1}',
        document(members={"a": 1}),
        document(step="many"),
        document(last_error="broken"),
        document(last_checkpoint={"step": -1}),
        document(attempt="newest"),
        # What the API server would refuse in a status, or keep for ever: one run's words must not cost the others.
        document(step=2**63),
        document(attempt=2**63),
        document(restarts={"Hung": 2**63}),
        document(last_checkpoint={"name": "x" * 300, "step": 1}),
        document(last_checkpoint={"name": "x", "step": 1, "url": "x" * 5000}),
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_status(body: bytes) -> None:
    with pytest.raises((ValueError, ValidationError, RecursionError)):
        parse(body, NOW, "")


def test_an_unknown_reason_is_no_reason() -> None:
    found = parse(document(last_error={"exit_code": 1, "reason": "Mood", "message": "x" * 10_000}), NOW, "")
    assert found.last_error is not None
    assert (found.last_error.reason, len(found.last_error.message)) == (None, 2000)


async def _answers(request: web.Request) -> web.StreamResponse:
    match request.match_info["how"]:
        case "well":
            return web.Response(body=document(step=1))
        case "elsewhere":
            raise web.HTTPFound("/well")
        case "broken":
            return web.Response(text="{")
        case "large":
            return web.Response(body=b" " * (LARGEST_BYTES + 1))
    raise web.HTTPNotFound


async def _served(work: Any) -> Any:
    """Do `work(base URL)` while a server answers."""
    app = web.Application()
    app.add_routes([web.get("/{how}", _answers)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        return await work(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ("well", Outcome.ANSWERED),
        ("elsewhere", Outcome.REFUSED),
        ("broken", Outcome.INVALID),
        ("large", Outcome.TOO_LARGE),
        ("nowhere", Outcome.REFUSED),
    ],
)
def test_outcomes(how: str, outcome: Outcome) -> None:
    async def ask(base: str) -> tuple[Outcome, Coordinator | None]:
        asker = Coordinators(10, lambda _: None, lambda *_: None, lambda _: None)
        try:
            return await asker.ask(Question(f"{base}/{how}", "uid"))
        finally:
            await asker.close()

    found, coordinator = asyncio.run(_served(ask))
    assert found is outcome
    assert (coordinator is not None) == (outcome is Outcome.ANSWERED)


def test_a_closed_port_is_silent() -> None:
    async def ask() -> Outcome:
        asker = Coordinators(10, lambda _: None, lambda *_: None, lambda _: None)
        try:
            return (await asker.ask(Question("http://127.0.0.1:1/", "")))[0]
        finally:
            await asker.close()

    assert asyncio.run(ask()) is Outcome.SILENT


def test_runs_are_asked_until_there_is_nobody_to_ask() -> None:
    key: RunKey = ("runs", "demo")
    heard: list[RunKey] = []
    counted: list[Outcome] = []

    async def work(base: str) -> None:
        over = asyncio.Event()

        def hear(of: RunKey, _: Coordinator | None) -> None:
            heard.append(of)
            if len(heard) == 3:
                over.set()

        def question(_: RunKey) -> Question | None:
            return None if over.is_set() else Question(f"{base}/well", "uid")

        asker = Coordinators(0.05, question, hear, counted.append)
        asker.want(key)
        asker.want(key)
        await asyncio.wait_for(over.wait(), 20)
        await asker.close()

    asyncio.run(_served(work))
    assert heard == [key] * 3
    assert counted == [Outcome.ANSWERED] * 3


def test_a_loop_that_is_late_asks_every_other_time() -> None:
    """What else waits for its time is more urgent; an answer is fresh for longer than two turns."""
    asked: list[RunKey] = []

    class Late(Coordinators):
        async def ask(self, question: Question) -> tuple[Outcome, Coordinator | None]:
            return Outcome.SILENT, None

    async def work() -> None:
        asker = Late(10, lambda _: Question("", ""), lambda key, _: asked.append(key), lambda _: None)
        now = asyncio.get_running_loop().time()

        async def turn(late: float) -> int:
            """One turn that comes so late; how often it asked."""
            before = len(asked)
            asker.want(("runs", "demo"))
            asker._start(("runs", "demo"), now - late)
            for _ in range(5):
                await asyncio.sleep(0)
            return len(asked) - before

        assert [await turn(late) for late in (5, 5, 5, 5)] == [1, 0, 1, 0], "never left out before it was asked once"
        assert [await turn(late) for late in (0.1, 0.1, 5, 0.1)] == [1, 1, 0, 1]
        await asyncio.sleep(0)
        await asker.close()

    asyncio.run(work())
