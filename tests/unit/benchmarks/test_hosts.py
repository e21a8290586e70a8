"""Sides in processes of their own: jobs, ranks, and a side that ends."""

from __future__ import annotations

import pytest

from benchmarks import hosts
from benchmarks.hosts import Host, HostFailed

ECHO = "tests.unit.benchmarks.echo_host"


def test_every_rank_answers_and_prints_do_not_stand_among_answers() -> None:
    with Host(ECHO, "side", world=2) as host:
        answers = host.ask({"steps": 3})
    assert [answer["rank"] for answer in answers] == ["0", "1"]
    assert [(answer["steps"], answer["arguments"]) for answer in answers] == [(3, ["side"])] * 2


def test_a_side_that_ends_says_why() -> None:
    with Host(ECHO) as host, pytest.raises(HostFailed, match=r"ended with 1:\n(?s:.*)no more"):
        host.ask({"end": True})


def test_a_side_that_is_stuck_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(ECHO, world=2) as host:
        monkeypatch.setattr(hosts, "LIMIT_SECONDS", 0.1)
        with pytest.raises(HostFailed, match=r"no answer in 0\.1 s"):
            host.ask({"stuck": True})


def test_a_side_that_cannot_start_says_why() -> None:
    with pytest.raises(HostFailed, match="No module named"):
        Host("tests.unit.benchmarks.nowhere")
