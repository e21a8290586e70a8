"""Dumps of Wikipedia and its sisters: `...-pages-articles.xml`, plain or compressed; multistream ones on all cores.

A multistream dump is many bz2 streams laid end to end, and its reader can begin at any of them: a part is a range of
bytes and has the pages whose first tag is in a stream that begins in the range. The same holds for dumps that parallel
compressors made, in which pages go across streams. A stream that is damaged costs its own pages alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal
from xml.etree import ElementTree

from pydantic import Field

from trainer.data.sources.base import Document, Part, document, too_long
from trainer.data.sources.files import File, FileSource, at, broken_document, cut
from trainer.data.sources.records import split
from trainer.data.sources.streams import Broken, Places, chunks, compression_of, next_match, open_stored
from trainer.data.sources.wikitext import HIDDEN_NAMESPACES, plain_text

# The streams of a multistream dump hold a hundred pages, well below a megabyte.
LONGEST_STREAM_BYTES = 8 * 1024 * 1024

_STREAM = re.compile(rb"BZh[1-9]1AY&SY")
_ROOT, _PAGE, _PAGE_END = b"<mediawiki", b"<page>", b"</page>"
# The dump's own words for media, file and category.
_HIDDEN = re.compile(rb'<namespace key="(?:-2|6|14)"[^>]*>([^<]+)<')


class Wikipedia(FileSource):
    """XML dumps of MediaWiki; each article is a document, redirects and pages of other namespaces are left out."""

    type: Literal["wikipedia"]
    namespaces: tuple[int, ...] = (0,)
    """Numbers of the namespaces whose pages are taken; 0 is articles."""
    part_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    """Stored bytes that one core reads at a time; four times as much XML in a compressed dump."""

    def parts(self) -> list[Part]:
        return cut(self.files(), _can_be_cut, self.part_bytes)

    def read_file(self, url: str, part: Part) -> Iterator[Document]:
        compressed, head = compression_of(url), _head(url)
        if not any(tag in head for tag in (_ROOT, _PAGE)):
            if part.start == 0:
                yield Document(at(url, 0), None, part.num_bytes, "malformed")
            return
        hidden = HIDDEN_NAMESPACES | {name.decode(errors="replace").lower() for name in _HIDDEN.findall(head)}
        with open_stored(url) as file:
            place: int | None = part.start
            if compressed and part.start:
                place = next_match(file, part.start, _STREAM, part.end)
            while place is not None:
                places = Places(chunks(file, place, plain=not compressed), compressed=bool(compressed))
                try:
                    yield from self._pages(url, places, part.end, hidden)
                    break
                except Broken as broken:
                    # The reader of the next part meets a break behind the end, unless it cannot tell the stream as one.
                    mine = part.end is None or broken.member < part.end
                    if mine or next_match(file, broken.member, _STREAM, broken.member + 1) is None:
                        yield broken_document(url, broken)
                    place = next_match(file, broken.member + 1, _STREAM, part.end) if compressed == "bz2" else None

    def _pages(self, url: str, places: Places, end: int | None, hidden: frozenset[str]) -> Iterator[Document]:
        """The pages whose first tag is stored before `end`."""
        for record in split(places.pieces(), _PAGE_END, self.max_document_bytes):
            start = 0 if record.content is None else record.content.find(_PAGE)
            if start < 0:
                continue  # the end of a page that began in the part before, or of the dump
            place = places.of(record.offset + start)
            if end is not None and place >= end:
                return
            if record.content is None:
                yield too_long(at(url, place), record.num_bytes)
            else:
                yield self._article(at(url, place), record.content[start:], hidden)

    def _article(self, name: str, page: bytes, hidden: frozenset[str]) -> Document:
        try:
            # A fragment without a DOCTYPE can define no entities, so there is nothing in it to expand.
            tree = ElementTree.fromstring(page + _PAGE_END)  # noqa: S314
        except ElementTree.ParseError:
            return Document(name, None, len(page), "malformed" if _is_utf8(page) else "utf-8")
        name = f"{name} {tree.findtext('title', '')}"
        namespace, revision = tree.findtext("ns", "0"), tree.find("revision[last()]")
        left_out = tree.find("redirect") is not None or namespace not in map(str, self.namespaces)
        if left_out or revision is None or revision.findtext("model", "wikitext") != "wikitext":
            return Document(name, None, len(page), "left-out")
        return document(name, plain_text(revision.findtext("text") or "", hidden))


def _can_be_cut(file: File) -> bool:
    compression = compression_of(file.url)
    if compression != "bz2":
        return compression is None
    with open_stored(file.url) as stored:
        return next_match(stored, 1, _STREAM, LONGEST_STREAM_BYTES) is not None


def _head(url: str) -> bytes:
    """The first piece of a file: of a dump its root element at least, which is made up where it cannot be read."""
    with open_stored(url) as file:
        try:
            return next(chunks(file), (0, b""))[1]
        except Broken:
            return _ROOT


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
