"""A launcher's connection to its coordinator: lines out, messages in, and a new connection whenever one breaks.

The launcher polls it in its own loop, so there is no thread. Each connection begins with a hello that says who comes
back and in which round its workers are; what happens in between needs no coordinator.
"""

from __future__ import annotations

import contextlib
import math
import socket
import sys
import time
from collections.abc import Callable

from pydantic import BaseModel

from trainer.addresses import joined
from trainer.elastic import messages
from trainer.elastic.messages import FromCoordinator, NotAMessage

CONNECT_SECONDS = 1.0
RETRY_SECONDS = 0.2
SILENCE_SECONDS = 10.0
"""For which the other side's kernel may acknowledge nothing before the connection counts as broken."""
_UNKNOWN = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class Link:
    """One launcher's end."""

    def __init__(self, host: str, port: int, hello: Callable[[], list[BaseModel]]) -> None:
        """hello: the first messages of a new connection, as things are then."""
        self.address = joined(host, port)
        self.error: str | None = None
        """Why the newest try to connect failed; None while connected."""
        self.unknown_host = False
        """Whether it failed because nobody knows the address, and nobody ever did."""
        self._was_connected = False
        self._where = (host, port)
        self._hello = hello
        self._socket: socket.socket | None = None
        self._received = b""
        self._retry_at = 0.0

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def local_host(self) -> str:
        """This machine's address as the coordinator's network sees it; peers reach it there."""
        assert self._socket is not None
        return str(self._socket.getsockname()[0])

    def waitable(self) -> list[socket.socket]:
        """What becomes readable when a message is there."""
        return [self._socket] if self._socket is not None else []

    def keep_up(self, now: float) -> None:
        """Connect if there is no connection and the last try is long enough ago."""
        if self._socket is not None or now < self._retry_at:
            return
        self._retry_at = now + RETRY_SECONDS
        try:
            found = socket.create_connection(self._where, timeout=CONNECT_SECONDS)
        except OSError as error:
            self.error = f"coordinator {self.address}: {error.strerror or error}"
            # A name that was known once, or a server of names that is away, says nothing against the address.
            self.unknown_host = (
                isinstance(error, socket.gaierror) and error.errno in _UNKNOWN and not self._was_connected
            )
            return
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            # A machine without power does not hang up; by itself the kernel goes on sending for a quarter of an hour.
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * SILENCE_SECONDS))
        self._was_connected = True
        self._socket, self._received, self.error = found, b"", None
        for message in self._hello():
            self.send(message)

    def send(self, message: BaseModel) -> None:
        """Send if connected; what is lost with a connection is said again by the next hello."""
        if self._socket is None:
            return
        try:
            self._socket.sendall(messages.line_of(message))
        except OSError:
            self._drop()

    def receive(self) -> list[FromCoordinator]:
        """All whole messages that have arrived; never waits."""
        if self._socket is None:
            return []
        try:
            self._socket.setblocking(False)
            while True:
                data = self._socket.recv(65536)
                self._received += data
                if not data or len(self._received) > messages.LINE_BYTES:
                    self._drop()
                    break
        except BlockingIOError:
            self._socket.settimeout(CONNECT_SECONDS)
        except OSError:
            self._drop()
        *lines, self._received = self._received.split(b"\n")
        found = []
        for line in lines:
            with contextlib.suppress(NotAMessage):  # of a newer coordinator
                found.append(messages.from_coordinator(line))
        return found

    def rest(self, seconds: float) -> None:
        """Hang up, and connect again after a while."""
        self._drop()
        self._retry_at = time.monotonic() + seconds

    def close(self) -> None:
        """Hang up for good."""
        self.rest(math.inf)

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
