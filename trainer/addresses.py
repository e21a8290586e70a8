"""Addresses as HOST:PORT, and sockets that listen at them, on clusters of IPv4, of IPv6 and of both.

Called by whatever serves or is told where something is served: coordinator, launcher, status pages, operator. See
docs/decisions/addresses.md for why each server's own way of listening is not used.
"""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack

EVERYWHERE = "::"
"""Every address of this machine, of both families."""
_ADDRESS = re.compile(r"(\[(?P<ipv6>[^\[\]]*:[^\[\]]*)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_EVERYWHERE_IPV4 = "0.0.0.0"  # noqa: S104 - of a kernel that has no IPv6


def served_at(host: str) -> str:
    """What a server is to listen at: `host`, or all of IPv4 for everywhere on a kernel that has no IPv6."""
    return _EVERYWHERE_IPV4 if host == EVERYWHERE and not socket.has_dualstack_ipv6() else host


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket that has the port (0: one that is free) and does not listen yet. OSError where it cannot be had."""
    host = served_at(host)
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with ExitStack() as on_error:
        found = on_error.enter_context(socket.socket(family, kind))
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == EVERYWHERE:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.bind(address)
        on_error.pop_all()
    return found


def joined(host: str, port: int) -> str:
    """HOST:PORT; an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parted(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of HOST:PORT. ValueError for anything else, such as IPv6 without brackets."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise ValueError(f"{address} is not HOST:PORT; an IPv6 address stands in brackets")
    return found["ipv6"] or found["host"], int(found["port"])
