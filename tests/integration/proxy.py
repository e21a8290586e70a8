"""An HTTP proxy before a storage server, for the trouble that networks and stores make.

It understands just enough of HTTP/1.1 to take requests and answers one by one, so that trouble meets whole requests and
not pieces of them. Signatures stay valid: heads are passed on as they are.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

_SLOW_SECONDS = 0.25
# In which a request is looked for the text that it is to be told by.
_LOOKED_AT_BYTES = 1 << 16


class Trouble(StrEnum):
    """What may happen to every request while it lasts."""

    DOWN = "down"  # hung up on
    ERRORS = "errors"  # answered with 500
    SLOW = "slow"  # a quarter of a second each
    CUT = "cut"  # half of the body of a write or of an answer, and no more
    LOST = "lost"  # writes are carried out, their answers lost
    DENIED = "denied"  # answered with 403
    STALE = "stale"  # listings are those of before


@dataclass(frozen=True)
class _Request:
    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def lists(self) -> bool:
        return self.method == "GET" and ("list-type=" in self.target or "comp=list" in self.target)

    @property
    def writes(self) -> bool:
        return self.method in ("PUT", "POST")

    def mentions(self, text: bytes) -> bool:
        return text in self.head or text in self.body[:_LOOKED_AT_BYTES]


class Proxy:
    """A proxy on a free port of the loopback interface, or of `host`, before a server on it, or on `upstream_host`.

    `lose(text)` once keeps the server's answer to a PUT or POST that mentions the text to itself and hangs up: the
    request was carried out; `lost` counts what it swallowed. `hold(text)` keeps requests that mention the text from the
    server until `release()`; `held` counts them. `trouble` befalls all requests until it is None again. `reads` has the
    path of every GET request, in order.
    """

    def __init__(self, upstream_port: int, host: str = "127.0.0.1", upstream_host: str = "127.0.0.1") -> None:
        self.lost = 0
        self.held = 0
        self.troubled = 0
        """Requests that `trouble` befell."""
        self.reads: list[str] = []
        self.trouble: Trouble | None = None
        self._upstream = (upstream_host, upstream_port)
        self._armed: bytes | None = None
        self._holds: bytes | None = None
        self._released = threading.Event()
        self._listings: dict[str, bytes] = {}
        self._listener = socket.create_server((host, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, text: str) -> None:
        """Swallow the answer to the next write that mentions `text`."""
        self._armed = text.encode()

    def hold(self, text: str) -> None:
        """From now on keep requests that mention `text` back."""
        self._released.clear()
        self._holds = text.encode()

    def release(self) -> None:
        """Pass on what is held, and hold nothing more."""
        self._holds = None
        self._released.set()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One connection, request after request."""
        with contextlib.suppress(OSError, ValueError):
            came = _Reader(client)
            while (request := _read_request(came, client)) is not None:
                if request.method == "GET":
                    self.reads.append(request.target.split("?")[0])
                if not self._pass(request, client):
                    break
        _hang_up(client)

    def _pass(self, request: _Request, client: socket.socket) -> bool:
        """Bring one request to the server and its answer back, as trouble allows; whether the connection goes on."""
        if self._holds is not None and request.mentions(self._holds):
            self.held += 1
            self._released.wait()
        trouble = self.trouble
        self.troubled += trouble is not None
        if trouble is Trouble.DOWN:
            return False
        if trouble in (Trouble.ERRORS, Trouble.DENIED):
            client.sendall(_refusal(500 if trouble is Trouble.ERRORS else 403, request.method))
            return True
        if trouble is Trouble.SLOW:
            time.sleep(_SLOW_SECONDS)
        if trouble is Trouble.STALE and request.lists and request.target in self._listings:
            client.sendall(self._listings[request.target])
            return True
        # A new one for each: a server hangs up on those that say nothing for a while.
        with socket.create_connection(self._upstream) as upstream:
            if trouble is Trouble.CUT and request.writes:
                upstream.sendall(request.head + request.body[: len(request.body) // 2])
                return False
            upstream.sendall(request.head + request.body)
            answer = _read_answer(_Reader(upstream), request.method)
        armed = self._armed
        if request.writes and (trouble is Trouble.LOST or (armed is not None and request.mentions(armed))):
            self._armed = None
            self.lost += 1
            return False
        if request.lists:
            self._listings[request.target] = answer
        client.sendall(answer[: len(answer) // 2] if trouble is Trouble.CUT else answer)
        return trouble is not Trouble.CUT


class _Reader:
    """Lines and counted bytes from a socket."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._buffer = bytearray()

    def until(self, mark: bytes) -> bytes:
        """Everything up to the mark and with it; b"" at the end."""
        while (found := self._buffer.find(mark)) < 0:
            if not self._more():
                return b""
        return self._take(found + len(mark))

    def exactly(self, count: int) -> bytes:
        """So many bytes. OSError if there are fewer."""
        while len(self._buffer) < count:
            if not self._more():
                raise ConnectionResetError
        return self._take(count)

    def rest(self) -> bytes:
        """All there is until the other side hangs up."""
        while self._more():
            pass
        return self._take(len(self._buffer))

    def _more(self) -> bool:
        data = self._source.recv(65536)
        self._buffer += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def _read_request(came: _Reader, client: socket.socket) -> _Request | None:
    head = came.until(b"\r\n\r\n")
    if not head:
        return None
    if _field(head, b"expect") == b"100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
    return _Request(head, _body(head, came, has_end=True))


def _read_answer(answered: _Reader, method: str) -> bytes:
    head = answered.until(b"\r\n\r\n")
    if not head:
        raise ConnectionResetError
    status = int(head.split(b" ", 2)[1])
    if method == "HEAD" or status in (204, 304):
        return head
    return head + _body(head, answered, has_end=False)


def _body(head: bytes, source: _Reader, *, has_end: bool) -> bytes:
    """The body that belongs to a head; has_end: without a length it is empty, else it goes on to the end."""
    length = _field(head, b"content-length")
    if length is not None:
        return source.exactly(int(length))
    if _field(head, b"transfer-encoding") == b"chunked":
        return b"".join(_chunks(source))
    return b"" if has_end else source.rest()


def _chunks(source: _Reader) -> Iterator[bytes]:
    while True:
        line = source.until(b"\r\n")
        size = int(line.split(b";")[0], 16)
        yield line + source.exactly(size + 2 if size else 0)
        if size == 0:
            yield source.until(b"\r\n")
            return


def _field(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().lower()
    return None


def _refusal(status: int, method: str) -> bytes:
    """An answer in S3's words."""
    code, reason = ("InternalError", "Internal Server Error") if status == 500 else ("AccessDenied", "Forbidden")
    body = f"<Error><Code>{code}</Code><Message>{reason}</Message></Error>".encode()
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)


def _hang_up(connection: socket.socket) -> None:
    """At once and without a word, whatever the other side is waiting for."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
