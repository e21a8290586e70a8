"""A launcher's connection: what makes an address unknown, and when a silent other side counts as gone."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from trainer.elastic.link import RETRY_SECONDS, SILENCE_SECONDS, Link


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As a server of names answers; there is none here that could be asked."""

    def fails(*_args: object, **_options: object) -> None:
        raise socket.gaierror(number, "as told")

    monkeypatch.setattr(socket, "getaddrinfo", fails)


@pytest.mark.parametrize(("number", "unknown"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)])
def test_a_server_of_names_that_is_away_makes_no_address_unknown(
    monkeypatch: pytest.MonkeyPatch, number: int, unknown: bool
) -> None:
    refuse(monkeypatch, number)
    link = Link("coordinator.example", 29400, list)
    link.keep_up(time.monotonic())
    assert not link.connected
    assert link.unknown_host is unknown


def test_a_name_that_was_known_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link("127.0.0.1", server.getsockname()[1], list)
        link.keep_up(time.monotonic())
        assert link.connected
        link.rest(0)
    refuse(monkeypatch, socket.EAI_NONAME)
    link.keep_up(time.monotonic() + 2 * RETRY_SECONDS)
    assert not link.connected
    assert not link.unknown_host


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives up a connection after so long")
def test_the_kernel_is_told_how_long_the_other_side_may_be_silent() -> None:
    """What it does then needs a machine that loses its power: tests/faults on the cluster."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link("127.0.0.1", server.getsockname()[1], list)
        link.keep_up(time.monotonic())
        (connection,) = link.waitable()
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000 * SILENCE_SECONDS
        link.close()
