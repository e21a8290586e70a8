"""What every source of text is: parts that any process can read, and documents that say why they have no text.

`trainer.data.prepare` takes sources as settings, asks them for their parts and reads each part where it has a core
free. A source loses nothing silently: what it cannot read comes as a document without text that names the problem.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from trainer.settings import Settings

# Why a document has no text. All but "left-out" are faults of the input; "left-out" is what a source is made to pass
# over: redirects, images, pages that the server did not find.
Fault = Literal["utf-8", "truncated", "malformed", "too-long", "empty"]
Problem = Literal[Fault, "left-out"]
FAULTS: tuple[Fault, ...] = get_args(Fault)


class Document(NamedTuple):
    """A text and where it comes from."""

    name: str
    """File, and the place in it where it holds many documents."""
    text: str | None
    """None where there is a problem."""
    num_bytes: int
    """UTF-8 bytes of the text; without one, bytes of what stood in its place, as far as they are known."""
    problem: Problem | None = None


@dataclass(frozen=True)
class Part:
    """A piece of a source that is read by itself. Parts are independent and can be sent to another process."""

    name: str
    """Unique among the parts of a source."""
    num_bytes: int
    """Bytes as stored; of progress, not of text."""
    files: tuple[str, ...] = ()
    """The files that it is made of, in order."""
    start: int = 0
    """Where it begins in its file: a byte, or the number of a row group."""
    end: int | None = None
    """Where the next part begins; None where it goes to the end."""


class Source(Settings, ABC):
    """Where text comes from. A subclass has a field `type` with the one name that picks it."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """The pieces of this source: the same ones in the same order as long as its fingerprint is the same."""

    @abstractmethod
    def read(self, part: Part) -> Iterator[Document]:
        """The documents of a part, streamed in bounded memory, always in the same order."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Tells whether the input changed, without reading all of it."""

    def record(self) -> dict[str, Any]:
        """What dataset.json says of this source."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def documents(self) -> Iterator[Document]:
        """All documents, part after part."""
        for part in self.parts():
            yield from self.read(part)

    def total_bytes(self) -> int:
        """Bytes of all parts as they are stored."""
        return sum(part.num_bytes for part in self.parts())


def document(name: str, text: str, problem: Problem | None = None) -> Document:
    """A document of this text; without one where nothing but white space is left of it, or where it has a problem."""
    num_bytes = len(text.encode(errors="surrogatepass"))
    if problem is None and (not text or text.isspace()):
        problem = "empty"
    return Document(name, None if problem else text, num_bytes, problem)


def decoded(name: str, content: bytes) -> Document:
    """A document of these bytes, which should be UTF-8."""
    try:
        return document(name, content.decode("utf-8"))
    except UnicodeDecodeError:
        return Document(name, None, len(content), "utf-8")


def too_long(name: str, num_bytes: int) -> Document:
    """What stands for a document longer than its source takes."""
    return Document(name, None, num_bytes, "too-long")


def whole_files(files: Iterable[tuple[str, int]], part_bytes: int) -> list[Part]:
    """Parts of whole files, given by name and bytes; small ones in a row share one, which has the first one's name."""
    groups: list[list[str]] = []
    sizes: list[int] = []
    for name, num_bytes in files:
        if not groups or sizes[-1] + num_bytes > part_bytes:
            groups.append([])
            sizes.append(0)
        groups[-1].append(name)
        sizes[-1] += num_bytes
    return [Part(names[0], size, tuple(names)) for names, size in zip(groups, sizes, strict=True)]


def digest(value: Any) -> str:
    """Hex sha256 of a value's JSON, for fingerprints."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
