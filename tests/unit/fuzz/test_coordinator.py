"""Anything said to a live coordinator and to its HTTP server: it answers or hangs up, and serves the next one."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.elastic.hellos import hello
from tests.unit.fuzz.mutations import JSON, changed, damaged, few
from trainer.elastic import messages
from trainer.elastic.link import Link
from trainer.elastic.messages import Beat, Bye, Ended, Failures, Leaving, PastFailure, Ready, RoundClaim
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import End
from trainer.elastic.server import HOST, LocalCoordinator

# What rank 0 tells, of every kind that /status and /metrics are made of.
STATUS: dict[str, Any] = {
    "attempt": "a0001",
    "phase": "training",
    "step": 3,
    "steps_total": 9,
    "loss": 2.5,
    "tokens": 10,
    "tokens_per_second": 5.0,
    "mfu_ratio": None,
    "eta_time": "2026-01-01T00:00:00+00:00",
    "last_progress_time": "2026-01-01T00:00:00+00:00",
    "shares": {"data": 0.1, "other": 0.9},
    "rank_step_seconds": {"min": 0.1, "median": 0.2, "max": 0.3},
    "memory": {"resident": 5},
    "goodput_seconds": {"training": 5.0},
    "goodput_ratio": 0.5,
    "settled_seconds": {"training": 5.0},
    "settled_gpu_seconds": {"training": 5.0},
    "cost": {"spent": 1.0, "remaining": None, "lost": 0.0, "per_billion_tokens": 1.0, "currency": "USD"},
    "last_checkpoint": {"name": "step-00000001-a0001", "step": 1, "time": "2026-01-01T00:00:00+00:00", "url": "u"},
    "info": {"image": "x"},
    "hosts": [{"host": "h", "node_cpu": 0.5}],
    "gpus": [{"node": "n", "gpu": 0, "rank": 0}],
}
TALK = [
    json.loads(messages.line_of(said))
    for said in (
        hello(id="x", step=2, claim=RoundClaim(id="r", number=1, seats=("x",), took_step=True)),
        Ready(endpoint="127.0.0.1:9"),
        Beat(step=3, took_step=True, status=STATUS),
        Failures(failures=(PastFailure(age_seconds=1.0, message="m"),)),
        Ended(round="r", end=End.FAILED, reason=Reason.WORKER_FAILED, exit_code=1, message="m"),
        Leaving(),
        Bye(),
    )
]
REQUEST = b"GET /status HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"


@pytest.fixture
def coordinator(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCoordinator]:
    """One that nothing may bring out of order: no error in its log, none in its threads."""
    broken: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda found: broken.append(str(found.exc_value)))
    local = LocalCoordinator("small")
    yield local
    local.close()
    assert not broken
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert not errors


def say(port: int, data: bytes) -> None:
    """Send it, and read what comes until the other side has enough of us, or a moment has passed."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5) as stranger:
        stranger.settimeout(0.02)
        stranger.sendall(data)
        while stranger.recv(65536):
            pass


def still_serves(coordinator: LocalCoordinator) -> None:
    """The next launcher is taken, and both pages are whole."""
    with socket.create_connection((HOST, coordinator.port), timeout=5) as next_one:
        next_one.sendall(messages.line_of(hello(protocol=99)))
        assert json.loads(next_one.makefile("rb").readline())["type"] == "refused"
    for page in ("/status", "/metrics"):
        with urllib.request.urlopen(f"http://{HOST}:{coordinator.http_port}{page}", timeout=5) as answer:
            text = answer.read()
    assert b"trainer_" in text


@few
@given(data=st.data())
def test_bytes(coordinator: LocalCoordinator, data: st.DataObject) -> None:
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in TALK)
    say(coordinator.port, data.draw(st.binary(max_size=200) | damaged(lines)))
    still_serves(coordinator)


@few
@given(data=st.data())
def test_messages_with_wrong_values(coordinator: LocalCoordinator, data: st.DataObject) -> None:
    said = [data.draw(st.one_of(st.just(one), changed(one))) for one in TALK]
    said = [TALK[0], *data.draw(st.permutations(said[1:]))] if data.draw(st.booleans()) else said
    say(coordinator.port, b"".join(json.dumps(one).encode() + b"\n" for one in said))
    still_serves(coordinator)


@few
@given(status=changed(STATUS) | st.dictionaries(st.sampled_from(sorted(STATUS)), JSON, max_size=4))
def test_statuses_of_rank_0(coordinator: LocalCoordinator, status: Any) -> None:
    said = [TALK[0], {"type": "beat", "step": 1, "took_step": True, "status": status}]
    say(coordinator.port, b"".join(json.dumps(one).encode() + b"\n" for one in said))
    still_serves(coordinator)


@few
@given(data=st.data())
def test_requests(coordinator: LocalCoordinator, capfd: pytest.CaptureFixture[str], data: st.DataObject) -> None:
    say(coordinator.http_port, data.draw(damaged(REQUEST) | st.binary(max_size=200)))
    still_serves(coordinator)
    assert "Traceback" not in capfd.readouterr().err


@few
@given(lines=st.lists(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()), max_size=5))
def test_what_a_launcher_hears(lines: list[bytes]) -> None:
    with socket.create_server((HOST, 0)) as server:
        link = Link(HOST, server.getsockname()[1], lambda: [hello()])
        link.keep_up(0.0)
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"\n".join(lines) + b"\n")
        for _ in range(3):
            link.receive()
        link.close()
