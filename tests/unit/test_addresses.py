"""Servers that are reached over IPv4 and IPv6, and addresses that are written and read."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ipv6 import needs_ipv6
from trainer.addresses import EVERYWHERE, bound, joined, parted


def reached(listener: socket.socket, host: str) -> bool:
    listener.listen()
    try:
        socket.create_connection((host, listener.getsockname()[1]), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


@needs_ipv6
@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
def test_everywhere_is_both_families_at_one_port(client: str) -> None:
    with bound(EVERYWHERE, 0) as listener:
        assert reached(listener, client)


def test_a_kernel_without_ipv6_still_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands for a kernel that was started with ipv6.disable=1, which no test can do.
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with bound(EVERYWHERE, 0) as listener:
        assert listener.family == socket.AF_INET
        assert reached(listener, "127.0.0.1")


@needs_ipv6
@pytest.mark.parametrize(("host", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_one_address_is_no_other(host: str, other: str) -> None:
    with bound(host, 0) as listener:
        assert reached(listener, host)
        assert not reached(listener, other)


def test_a_port_that_is_taken() -> None:
    with bound(EVERYWHERE, 0) as listener:
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            bound(EVERYWHERE, listener.getsockname()[1])


@given(st.ip_addresses(), st.integers(1, 65535))
def test_what_is_joined_is_parted(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    assert parted(joined(str(host), port)) == (str(host), port)


def test_examples() -> None:
    assert joined("fd00::2", 29400) == "[fd00::2]:29400"
    assert parted("gpt-run-coordinator:29400") == ("gpt-run-coordinator", 29400)


WRONG = [
    *("host", "host:", ":1", "host:0", "host:65536", "host:-1", "host:x", ""),
    *("fd00::2:29400", "[host]:1", "[fd00::2:1", "[]:1", "ray://host:10001"),
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT; an IPv6 address stands in brackets"):
        parted(text)
