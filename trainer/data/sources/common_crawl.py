"""Web archives: WARC with whole answers of servers, of which the text is taken, and WET with text that is ready.

The records of a .warc.gz are gzip members laid end to end, so a part is a range of bytes and has the records whose
member begins in it; a damaged member costs its own record alone. Records are cut here and not by a library's iterator:
those take a truncated archive for a finished one (docs/decisions/sources.md).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Literal

from trainer.data.sources.base import Document, Part, decoded, document, too_long
from trainer.data.sources.files import File, FileSource, at, broken_document, cut
from trainer.data.sources.streams import Broken, Places, chunks, compression_of, next_match, open_stored
from trainer.extras import needs

# The headers of a record.
LONGEST_HEAD_BYTES = 1 << 16

_MEMBER = re.compile(rb"\x1f\x8b\x08")
_VERSION = b"WARC/"
_HEAD_END, _RECORD_END = b"\r\n\r\n", b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*(\d+)", re.IGNORECASE)
_HTML = ("text/html", "application/xhtml+xml")


class CommonCrawl(FileSource):
    """WARC and WET files; each page is a document, what is no page of text is left out."""

    type: Literal["common-crawl"]
    main_text_only: bool = True
    """Take the main text of a page, without its menus, headers and footers; otherwise all its text."""

    def parts(self) -> list[Part]:
        return cut(self.files(), _can_be_cut, self.part_bytes)

    def read_file(self, url: str, part: Part) -> Iterator[Document]:
        with needs("data", "web archives"):
            import resiliparse  # noqa: F401  (which brings fastwarc; said before the first record)
        compression = compression_of(url)
        with open_stored(url) as file:
            place = _next_member(file, part.start, part.end) if part.start else 0
            while place is not None:
                places = Places(chunks(file, place, plain=not compression), compressed=bool(compression))
                try:
                    yield from self._documents(url, places, part.end)
                    break
                except Broken as broken:
                    # The reader of the next part meets a break behind the end, unless it cannot tell the member as one.
                    mine = part.end is None or broken.member < part.end
                    if mine or _next_member(file, broken.member, broken.member + 1) is None:
                        yield broken_document(url, broken)
                    place = _next_member(file, broken.member + 1, part.end) if compression == "gzip" else None

    def _documents(self, url: str, places: Places, end: int | None) -> Iterator[Document]:
        """The records that are stored before `end`, without those that describe the crawl."""
        content = _Content(places)
        while head := content.until(_HEAD_END, LONGEST_HEAD_BYTES):
            if not head.strip():
                continue
            place = places.of(content.offset - len(head))
            if end is not None and place >= end:
                return
            length = _LENGTH.search(head)
            if length is None or not head.startswith(_VERSION) or not head.endswith(_HEAD_END):
                cut_off = content.ended and head.startswith(_VERSION[: len(head)]) and not head.endswith(_HEAD_END)
                raise Broken("truncated" if cut_off else "malformed", place, place)
            num_bytes = int(length.group(1))
            if num_bytes > self.max_document_bytes:
                if content.skip(num_bytes + len(_RECORD_END)) < num_bytes:
                    raise Broken("truncated", place, place)
                yield too_long(at(url, place), num_bytes)
                continue
            block = content.take(num_bytes)
            if len(block) < num_bytes:
                raise Broken("truncated", place, place)
            content.skip(len(_RECORD_END))
            document = self._document(at(url, place), head + block)
            if document is not None:
                yield document

    def _document(self, name: str, raw: bytes) -> Document | None:
        """The document of a record, or None where it holds no page but tells of the crawl."""
        from fastwarc import WarcRecord, WarcRecordType

        try:
            record = WarcRecord.from_bytes(raw)
            name = f"{name} {record.headers.get('WARC-Target-URI', '')}".rstrip()
            kind, charset = record.headers.get("Content-Type") or "", None
            if record.record_type == WarcRecordType.response and record.is_http:
                record.parse_http(auto_decode="all")
                kind, charset = record.http_content_type or "", record.http_charset
                if record.http_headers.status_code != 200:
                    return Document(name, None, len(raw), "left-out")
            elif record.record_type not in (WarcRecordType.conversion, WarcRecordType.resource):
                return None
            payload = record.reader.read(self.max_document_bytes + 1)
        except OSError:  # what FastWARC raises for headers and encodings that make no sense
            return Document(name, None, len(raw), "malformed")
        if len(payload) > self.max_document_bytes:
            return too_long(name, len(payload))
        kind = (record.headers.get("WARC-Identified-Payload-Type") or kind).partition(";")[0].strip().lower()
        if kind in _HTML:
            return document(name, self._text(payload, charset))
        return decoded(name, payload) if kind == "text/plain" else Document(name, None, len(payload), "left-out")

    def _text(self, page: bytes, charset: str | None) -> str:
        from resiliparse.extract.html2text import extract_plain_text

        return extract_plain_text(
            _characters(page, charset),
            main_content=self.main_text_only,
            list_bullets=False,
            alt_texts=False,
            comments=not self.main_text_only,
        )


class _Content:
    """The content of an archive, read from the front."""

    def __init__(self, places: Places) -> None:
        self.offset = 0
        """Bytes that were read."""
        self.ended = False
        self._pieces = places.pieces()
        self._held = b""
        self._at = 0

    def until(self, mark: bytes, longest: int) -> bytes:
        """What comes up to and with a mark; without it at the end of the content, or where it is too far."""
        while (found := self._held.find(mark, self._at)) < 0:
            if len(self._held) - self._at > longest or not self._more():
                return self.take(longest)
        return self.take(found + len(mark) - self._at)

    def take(self, num_bytes: int) -> bytes:
        """The next bytes; fewer at the end."""
        pieces = []
        while num_bytes and (self._at < len(self._held) or self._more()):
            piece = self._held[self._at : self._at + num_bytes]
            pieces.append(piece)
            self._at += len(piece)
            self.offset += len(piece)
            num_bytes -= len(piece)
        return b"".join(pieces)

    def skip(self, num_bytes: int) -> int:
        """Pass over bytes without holding them; returns how many there were."""
        left = num_bytes
        while left and (passed := len(self.take(min(left, 1 << 20)))):
            left -= passed
        return num_bytes - left

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            self.ended = True
            return False
        self._held, self._at = self._held[self._at :] + piece, 0
        return True


def _can_be_cut(file: File) -> bool:
    if compression_of(file.url) != "gzip":
        return False
    with open_stored(file.url) as stored:
        return _next_member(stored, 1, file.num_bytes) is not None


def _next_member(file: io.RawIOBase, start: int, end: int | None) -> int | None:
    """Where the first gzip member from `start` on begins that holds a record."""
    place = next_match(file, start, _MEMBER, end)
    while place is not None:
        try:
            if next(chunks(file, place))[1].startswith(_VERSION):
                return place
        except Broken:
            pass  # three bytes inside a member that look like the start of one
        place = next_match(file, place + 1, _MEMBER, end)
    return None


def _characters(page: bytes, charset: str | None) -> str:
    """A page as characters: UTF-8 where it is, whatever it claims; else what the server, the page or its bytes say."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    try:
        return page.decode("utf-8")
    except UnicodeDecodeError:
        named = (charset, detect_encoding(page, from_html_meta=True))
        known = (map_encoding_to_html5(name, fallback_utf8=False) for name in named if name)
        return bytes_to_str(page, next(filter(None, known), "cp1252"), errors="replace", fallback_encodings=("cp1252",))
