"""Books of Project Gutenberg as its mirrors keep them: plain text between a header and a licence that are cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from trainer.data.sources.base import Document, Part, document, too_long
from trainer.data.sources.files import FileSource
from trainer.data.sources.streams import content, open_stored
from trainer.storage_errors import clean_url

# "*** START OF THE PROJECT GUTENBERG EBOOK NAME ***", with its variants since 2004; before that the book began behind
# the small print.
_START = re.compile(
    r"^[ \t]*\*{3}\s*START OF (?:THE|THIS) PROJECT GUTENBERG[^*]*\*{3}[^\n]*$"
    r"|^[ \t]*\*?END[ *]*THE SMALL PRINT![^\n]*$",
    re.MULTILINE | re.IGNORECASE,
)
_END = re.compile(
    r"^[ \t]*\*{3}\s*END OF (?:THE|THIS) PROJECT GUTENBERG"
    r"|^[ \t]*End of (?:the |this )?Project Gutenberg\b"
    r"|^[ \t]*\*{3} ?START: FULL LICENSE",
    re.MULTILINE | re.IGNORECASE,
)
# What volunteers put at a book's head.
_CREDITS = re.compile(
    r"\A\s*(?:E-?text prepared by|Produced by|Transcribed (?:from|by))\b.*?(?:\n[ \t]*\n|\Z)", re.DOTALL
)
_ENCODING = re.compile(rb"^Character set encoding:[ \t]*([\w.:-]+)", re.MULTILINE | re.IGNORECASE)


class Gutenberg(FileSource):
    """Project Gutenberg's .txt files, one book each."""

    type: Literal["gutenberg"]

    def read_file(self, url: str, part: Part) -> Iterator[Document]:  # noqa: ARG002  (a book is not cut)
        name = clean_url(url)
        with open_stored(url) as file:
            raw = content(file, self.max_document_bytes)
        if raw is None:
            yield too_long(name, self.max_document_bytes)
            return
        text = _decode(raw)
        yield Document(name, None, len(raw), "utf-8") if text is None else book(name, text)


def book(name: str, text: str) -> Document:
    """The book inside a file of Project Gutenberg: malformed without its first marker, truncated without its last."""
    text = text.replace("\r\n", "\n")
    starts = [match.end() for match in _START.finditer(text)]
    if not starts:
        return document(name, text, "malformed")
    # Some have the small print behind the book: the book begins at the last marker with an end behind it.
    for start in reversed(starts):
        end = _END.search(text, start)
        if end is not None:
            return document(name, _CREDITS.sub("", text[start : end.start()]).strip())
    return document(name, text, "truncated")


def _decode(raw: bytes) -> str | None:
    """UTF-8, or the encoding that the header names: older files are in Latin-1 and others."""
    named = _ENCODING.search(raw)
    for encoding in ("utf-8-sig", named.group(1).decode("ascii") if named else None):
        try:
            if encoding is not None:
                return raw.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return None
