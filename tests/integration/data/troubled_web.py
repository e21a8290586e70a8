"""A web server on a real socket that serves files from memory and misbehaves as it is told to, file by file."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import quote, unquote

CHUNK_BYTES = 16 * 1024


@dataclass
class Manner:
    """How one file is served. Counters such as `drops` run down as answers are given."""

    ranges: bool = True
    etag: Literal["strong", "weak", "none"] = "strong"
    modified: bool = True
    honours_if_range: bool = True
    framing: Literal["length", "chunked", "close"] = "length"
    extra_length: int = 0
    """How much longer than the body the promised length is."""
    shift: int = 0
    """How far from the asked range the answered one begins."""
    cut_after: int | None = None
    """Bytes of a body after which the connection is reset."""
    cuts: int = 10**9
    """How many answers are cut so."""
    bytes_per_second: float | None = None
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers that are given first, one a request."""
    new_version_every: int | None = None
    """After this many answers the content is another one."""
    silent: int = 0
    """How many requests are left without an answer."""
    media_type: str = "application/octet-stream"
    then: Manner | None = None
    """How it is served after one answer."""


@dataclass
class Seen:
    """One request."""

    path: str
    headers: dict[str, str]
    time: float


class TroubledWeb:
    """The files, how each is served, and what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.manners: dict[str, Manner] = {}
        self.posts: dict[str, Callable[[bytes], bytes]] = {}
        self.seen: list[Seen] = []
        self.sent_bytes = 0
        self.url = ""
        self.not_found_headers: dict[str, str] = {}
        self.lock = threading.Lock()
        self.ending = threading.Event()

    def put(self, path: str, content: bytes, manner: Manner | None = None) -> str:
        """Serve `content` at `path`; its URL."""
        self.files[path] = content
        self.manners[path] = manner or Manner()
        return f"{self.url}{quote(path)}"

    def requests_of(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]


@contextmanager
def troubled_web() -> Iterator[TroubledWeb]:
    """A running server."""
    web = TroubledWeb()

    class Handler(_Handler):
        served = web

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield web
    finally:
        web.ending.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: TroubledWeb
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        web = self.served
        with web.lock:
            web.seen.append(Seen(path, {key.lower(): value for key, value in self.headers.items()}, time.monotonic()))
        if path.endswith("/") and path not in web.files:
            self._index(path)
        elif path not in web.files:
            self._plain(404, web.not_found_headers)
        else:
            self._file(path, web.manners[path])

    def do_POST(self) -> None:
        answer = self.served.posts.get(unquote(self.path.partition("?")[0]))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if answer is None:
            return self._plain(404, {})
        return self._plain(200, {"Content-Type": "application/json"}, answer(body))

    def log_message(self, *_: object) -> None:
        return

    def _plain(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def _index(self, folder: str) -> None:
        """Like Apache's: a line that sorts, the parent, then what is directly below."""
        below = {name[len(folder) :] for name in self.served.files if name.startswith(folder)}
        if not below:
            return self._plain(404, {})
        entries = sorted({name.split("/", 1)[0] + ("/" if "/" in name else "") for name in below})
        links = ["?C=M;O=D", "../", "mailto:someone@example.org", *map(quote, entries)]
        html = "".join(f'<tr><td><a href="{escape(link)}">{escape(link)}</a></td></tr>\n' for link in links)
        return self._plain(200, {"Content-Type": "text/html; charset=utf-8"}, html.encode())

    def _file(self, path: str, manner: Manner) -> None:
        with self.served.lock:
            early = manner.answers.pop(0) if manner.answers else None
            silent, manner.silent = manner.silent > 0, max(0, manner.silent - 1)
            content = self.served.files[path]
            every = manner.new_version_every
            if early is None and every is not None and len(self.served.requests_of(path)) % every == 0:
                content = self.served.files[path] = content[1:] + content[:1]
            if manner.then is not None:
                self.served.manners[path] = manner.then
        if silent:
            self.served.ending.wait(30)
            return self._hang_up()
        if early is not None:
            return self._plain(*early)
        etag = f'"{hashlib.md5(content).hexdigest()[:12]}"'
        headers = {"Content-Type": manner.media_type}
        if manner.etag != "none":
            headers["ETag"] = etag if manner.etag == "strong" else f"W/{etag}"
        modified = formatdate(1_700_000_000 + content[0] if content else 0, usegmt=True)
        if manner.modified:
            headers["Last-Modified"] = modified
        start, stop, status = self._range(manner, len(content), (etag, modified))
        if status == 416:
            return self._plain(416, {**headers, "Content-Range": f"bytes */{len(content)}"})
        if status == 206:
            start, stop = max(0, start + manner.shift), max(0, stop + manner.shift)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return self._body(status, headers, memoryview(content)[start:stop], manner)

    def _range(self, manner: Manner, size: int, versions: tuple[str, str]) -> tuple[int, int, int]:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if_range = self.headers.get("If-Range")
        stale = manner.honours_if_range and if_range is not None and if_range not in versions
        if not manner.ranges or asked is None or stale:
            return 0, size, 200
        start, stop = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else size, size)
        return (start, stop, 206) if start < stop else (0, 0, 416)

    def _body(self, status: int, headers: dict[str, str], body: memoryview, manner: Manner) -> None:
        self.send_response(status)
        if manner.framing == "length":
            headers["Content-Length"] = str(len(body) + manner.extra_length)
        elif manner.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        self.close_connection = manner.framing == "close" or manner.extra_length != 0
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        limit = len(body)
        with self.served.lock:
            if manner.cut_after is not None and manner.cuts > 0 and limit > manner.cut_after:
                manner.cuts -= 1
                limit = manner.cut_after
        for begin in range(0, limit, CHUNK_BYTES):
            chunk = body[begin : min(begin + CHUNK_BYTES, limit)]
            if manner.framing == "chunked":
                self.wfile.write(b"%x\r\n" % len(chunk))
            self.wfile.write(chunk)
            if manner.framing == "chunked":
                self.wfile.write(b"\r\n")
            with self.served.lock:
                self.served.sent_bytes += len(chunk)
            if manner.bytes_per_second is not None:
                self.wfile.flush()
                time.sleep(len(chunk) / manner.bytes_per_second)
        if limit < len(body):
            self._hang_up()
        elif manner.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        with suppress(ConnectionError, BrokenPipeError):
            super().handle()
