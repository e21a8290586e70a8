"""What the fetcher asks of a file somewhere else, and the ways in which one cannot be had.

`web` and `objects` give `RemoteFile`s, `download` reads them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from trainer.data.fetch.checksums import Hash
from trainer.data.fetch.pace import Pace
from trainer.storage_errors import Meaning, meaning_of, one_line

Word = Literal["missing", "refused", "busy", "unreachable", "truncated", "changed", "checksum", "malformed"]
"""Why a file could not be had: the word under which it is counted."""


@dataclass(frozen=True)
class Facts:
    """What a server says of a file. None: it does not say."""

    num_bytes: int | None = None
    version: str | None = None
    """Equal for equal bytes: an ETag, a generation, a time of change."""
    modified: float | None = None
    """Seconds since 1970 of the last change."""
    known: Hash | None = None
    """The content's hash, by the store's word."""


@dataclass(frozen=True)
class Answer:
    """The answer to one request: the file's bytes from `start` on."""

    facts: Facts
    start: int
    ranged: bool
    """Whether the server gives parts; else this is the whole file, whatever was asked for."""
    ends: bool
    """Whether a cut can be told from the end: by a length, or by chunks."""
    chunks: AsyncGenerator[bytes]


class RemoteFile(Protocol):
    """One file on a server."""

    @property
    def url(self) -> str:
        """Where it is, without secrets; for messages and records."""

    @property
    def pace(self) -> Pace | None:
        """How fast its server may be asked; None: as fast as we like."""

    async def stat(self) -> Facts:
        """Size and version, without the content."""

    def open(self, start: int, stop: int | None, version: str | None) -> AbstractAsyncContextManager[Answer]:
        """Ask for the bytes [start, stop) of this version; stop None: to the end. Raises Changed for another version.

        The chunks raise Cut where the server ends early.
        """

    async def confirm(self, version: str | None) -> None:
        """Raise Changed if the file is another version by now, where the answers themselves cannot tell."""


class Changed(Exception):
    """The file is not the one whose first bytes we hold: what is here must not be joined with what comes."""


class Cut(ConnectionError):
    """An answer ended before the bytes that were promised had come."""


class StatusError(Exception):
    """A web server's answer with a status that means no content."""

    def __init__(self, status_code: int, reason: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"HTTP status {status_code} {reason}".rstrip())
        self.status_code, self.headers = status_code, headers


class Garbled(ConnectionError):
    """What came is no answer in HTTP: left-overs of one that was longer than it said, or another protocol."""


class Unusable(Exception):
    """A file that cannot be had: why in one word, and a message with the offset where there is one."""

    def __init__(self, word: Word, message: str) -> None:
        super().__init__(message)
        self.word: Word = word


def unusable(error: Exception, where: str = "") -> Unusable:
    """What an error of a client means for its file; `where` is put behind the message."""
    if isinstance(error, Unusable):
        return error
    status, meaning = getattr(error, "status_code", None), meaning_of(error)
    word: Word = "malformed"
    if meaning is Meaning.MISSING or status == 410:
        word = "missing"
    elif meaning is Meaning.REFUSED:
        word = "refused"
    elif status in (429, 503):
        word = "busy"
    elif isinstance(error, Cut):
        word = "truncated"
    elif meaning is Meaning.PASSING and not isinstance(error, Garbled):
        word = "unreachable"
    said = str(error) if isinstance(error, (StatusError, Cut, Garbled)) else one_line(error)
    return Unusable(word, f"{said}{where}")
