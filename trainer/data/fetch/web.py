"""Files on web servers: one session for a fetch, a pace per server, requests for ranges of one version (RFC 9110).

Made by `run`; `listing` asks for files and for the links of folder pages. A range is asked for with If-Range, and the
answer's ETag, place and total are compared: parts of two versions are never joined. Content is taken as it is sent:
compressed files stay compressed.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.request import getproxies

from trainer.data.fetch.config import MIB, FetchConfig
from trainer.data.fetch.pace import Pace
from trainer.data.fetch.remote import Answer, Changed, Cut, Facts, Garbled, StatusError, Unusable
from trainer.extras import needs
from trainer.storage_errors import clean_url

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 30.0
# Of each connection; what has come since the last write is written at once.
BUFFER_BYTES = MIB // 4
# Lists and folder pages are held in memory.
PAGE_BYTES = 256 * MIB
_CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-(?P<last>\d+)|\*)/(?P<total>\d+|\*)")


@dataclass(frozen=True)
class Page:
    """A small file: its URL after redirections, its media type and its content."""

    url: str
    media_type: str
    content: bytes


class Web:
    """All requests of a fetch to web servers. An asynchronous context manager."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._paces: dict[str, Pace] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def pace(self, url: str) -> Pace:
        """The pace of a URL's server."""
        host = url.split("/", 3)[2].lower()
        return self._paces.setdefault(host, Pace(self._config.requests_per_second))

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET, in its turn. The caller looks at the status."""
        session = self._opened()
        import aiohttp
        from yarl import URL

        await asyncio.sleep(self.pace(url).reserve(1, time.monotonic()))
        try:
            # A URL with escapes is taken as it is: quoting anew could break a signature.
            response = await session.get(URL(url, encoded="%" in url), headers=headers)
        except aiohttp.TooManyRedirects as error:
            raise Unusable("malformed", "too many redirections") from error
        except aiohttp.ClientResponseError as error:  # raised for what is no answer, with a made-up status
            raise Garbled(f"no answer in HTTP: {error.message}") from None
        async with response:
            yield response

    async def page(self, url: str) -> Page:
        """A whole small file, such as a folder page or a list. Raises StatusError for a status over 400."""
        async with self.get(url, {}) as response:
            _raise_for_status(response)
            content = bytearray()
            async for chunk in _chunks(response, 0, response.content_length):
                content += chunk
                if len(content) > PAGE_BYTES:
                    raise Unusable(
                        "malformed", f"{clean_url(url)} has more than {PAGE_BYTES} bytes: not a list of files"
                    )
            return Page(str(response.url), response.content_type, bytes(content))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            with needs("data", "files of http(s)://"):
                import aiohttp
            self._session = aiohttp.ClientSession(
                # Compressed on the way, sizes and ranges would be those of another file.
                headers={"User-Agent": self._config.user_agent, "Accept-Encoding": "identity"},
                auto_decompress=False,
                read_bufsize=BUFFER_BYTES,
                connector=aiohttp.TCPConnector(limit=self._config.streams),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=self._config.timeout_seconds
                ),
                # Where there is one. Else aiohttp looks for it before every request, in a thread.
                trust_env=bool(getproxies()),
            )
        return self._session


class WebFile:
    """One file on a web server."""

    def __init__(
        self, web: Web, url: str, headers: Mapping[str, str] | None = None, facts: Facts | None = None
    ) -> None:
        """`headers` go with every request, to the first server of a redirection only; `facts` are known from a list."""
        self._web, self._address, self._headers = web, url, dict(headers or {})
        self._facts = facts or Facts()

    @property
    def url(self) -> str:
        """Without user, password and query."""
        return clean_url(self._address)

    @property
    def pace(self) -> Pace:
        """The pace of its server."""
        return self._web.pace(self._address)

    async def stat(self) -> Facts:
        """Ask for one byte: HEAD is refused by some servers, and by signed URLs."""
        async with self.open(0, 1, None) as answer:
            return answer.facts

    @asynccontextmanager
    async def open(self, start: int, stop: int | None, version: str | None) -> AsyncIterator[Answer]:
        """Ask for [start, stop); a server without ranges, or with another version than `version`, sends the whole."""
        headers = {**self._headers, "Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        if version is not None:
            headers["If-Range"] = version
        async with self._web.get(self._address, headers) as response:
            yield self._read(response, start, stop, version)

    async def confirm(self, version: str | None) -> None:
        """Nothing to do: every answer was compared."""

    def _read(self, response: aiohttp.ClientResponse, start: int, stop: int | None, version: str | None) -> Answer:
        if response.status not in (200, 206, 416):
            _raise_for_status(response)
            raise Unusable("malformed", f"HTTP status {response.status} in answer to a GET")
        _refuse_folder_page(response)
        own_version = _version(response)
        if version is not None and own_version is not None and own_version != version:
            raise Changed(f"{self.url}: version {own_version} instead of {version}")
        if response.status == 200:
            length = response.content_length
            ends = length is not None or response.headers.get("Transfer-Encoding", "").lower() == "chunked"
            facts = self._answered(response, length)
            return Answer(facts, 0, ranged=False, ends=ends, chunks=_chunks(response, 0, length))
        place = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if place is None or place["total"] == "*":
            raise Unusable("malformed", f"status {response.status} with {_said(response)}")
        total = int(place["total"])
        if response.status == 416:
            if start != total:  # 0 of an empty file, or all of one that is here already
                raise Changed(f"{self.url}: {total} bytes, byte {start} was asked for")
            facts = self._answered(response, total)
            return Answer(facts, start, ranged=True, ends=True, chunks=_chunks(response, start, 0, drop=True))
        if place["first"] is None or int(place["first"]) != start or (stop is not None and int(place["last"]) >= stop):
            raise Unusable("malformed", f"asked for bytes {start} to {stop}, was sent {_said(response)}")
        count = int(place["last"]) + 1 - start
        return Answer(
            self._answered(response, total), start, ranged=True, ends=True, chunks=_chunks(response, start, count)
        )

    def _answered(self, response: aiohttp.ClientResponse, num_bytes: int | None) -> Facts:
        return Facts(num_bytes, _version(response), _modified(response), self._facts.known)


async def _chunks(
    response: aiohttp.ClientResponse, start: int, count: int | None, *, drop: bool = False
) -> AsyncGenerator[bytes]:
    """The body as it arrives, `count` bytes (None: as many as come). Raises for more, Cut for fewer."""
    import aiohttp

    received = 0
    while not drop:
        try:
            chunk = await response.content.readany()
        except aiohttp.ClientPayloadError:
            # Its own cause carries a made-up status 400, which would read as an answer of the server.
            raise Cut(f"cut at byte {start + received}, {_said(response)} were promised") from None
        if not chunk:
            break
        received += len(chunk)
        if count is not None and received > count:
            raise Unusable("malformed", f"more bytes than {_said(response)}, from byte {start + count} on")
        yield chunk
    if count is not None and received < count:
        raise Cut(f"ended at byte {start + received}, {_said(response)} were promised")


def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        raise StatusError(response.status, response.reason or "", response.headers)


def _version(response: aiohttp.ClientResponse) -> str | None:
    """What If-Range takes: a strong ETag, else the time of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _modified(response: aiohttp.ClientResponse) -> float | None:
    try:
        return parsedate_to_datetime(response.headers.get("Last-Modified", "")).timestamp()
    except ValueError:
        return None


def _said(response: aiohttp.ClientResponse) -> str:
    said = response.headers.get("Content-Range")
    return f"Content-Range {said!r}" if said else f"Content-Length {response.headers.get('Content-Length')}"


def _refuse_folder_page(response: aiohttp.ClientResponse) -> None:
    """A folder's URL without its slash is redirected to the page that lists it, which nobody wants as a file."""
    if response.history and response.url.path.endswith("/") and response.content_type == "text/html":
        raise Unusable("malformed", "is the page of a folder: end the URL with / to fetch what it lists")
