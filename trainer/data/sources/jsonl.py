"""JSON lines: OpenWebText, C4, SlimPajama and Reddit's dumps as people keep them; plain or gz, bz2, xz, zst.

One object per line, the text in a field of it. Plain files are cut into byte ranges that cores read side by side; a
compressed one is read by one core.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field
from pydantic_core import from_json

from trainer.data.sources.base import Document, Part, document, too_long
from trainer.data.sources.files import FileSource, at, cut
from trainer.data.sources.records import Record, records
from trainer.data.sources.streams import compression_of, open_stored
from trainer.errors import UserError
from trainer.storage_errors import clean_url

# Objects in a row without the field after which a file is taken to have none with it.
ENOUGH_WITHOUT = 1000
_ABSENT = object()


class JsonLines(FileSource):
    """Files of one JSON object per line, one document each."""

    type: Literal["jsonl"]
    field: str = Field(default="text", min_length=1)
    """Key of the text; a dot leads into nested objects: `data.body`."""

    def parts(self) -> list[Part]:
        return cut(self.files(), lambda file: compression_of(file.url) is None, self.part_bytes)

    def read_file(self, url: str, part: Part) -> Iterator[Document]:
        without, found = 0, False
        with open_stored(url) as file:
            for record in records(file, part, b"\n", self.max_document_bytes):
                if record.content is not None and not record.content.strip():
                    continue
                has_field, result = self._document(url, record)
                found = found or has_field is True
                without += has_field is False
                if not found and without == ENOUGH_WITHOUT:
                    break
                yield result
        if without and not found:
            raise self._no_field(url, part, without)

    def _document(self, url: str, record: Record) -> tuple[bool | None, Document]:
        """Whether a line's object has the field, None where it is no object; and its document."""
        name = at(url, record.offset)
        if record.content is None:
            return None, too_long(name, record.num_bytes)
        try:
            line: Any = from_json(record.content)
        except ValueError:
            return None, Document(name, None, record.num_bytes, _what_is_wrong(record.content))
        if not isinstance(line, dict):
            return None, Document(name, None, record.num_bytes, "malformed")
        value = _value(line, self.field)
        if value is _ABSENT or value is None:
            return value is None, Document(name, None, record.num_bytes, "empty")
        if not isinstance(value, str):
            return True, Document(name, None, record.num_bytes, "malformed")
        return True, document(name, value)

    def _no_field(self, url: str, part: Part, without: int) -> UserError:
        keys: list[str] = []
        with open_stored(url) as file:
            for record in records(file, part, b"\n", self.max_document_bytes):
                try:
                    line = from_json(record.content or b"")
                except ValueError:
                    continue
                if isinstance(line, dict):
                    keys = sorted(_keys(line))
                    break
        return UserError(
            f"{clean_url(url)}: none of its first {without} objects has the field {self.field!r}",
            expected=f"one of the fields they have: {', '.join(keys) or 'none'}",
            fix="set `field` of this jsonl source to the one that holds the text",
        )


def _what_is_wrong(content: bytes) -> Literal["utf-8", "malformed"]:
    try:
        json.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        return "utf-8"
    except (ValueError, RecursionError):
        return "malformed"
    # JSON can spell half of a surrogate pair, which no encoding of Unicode has.
    return "utf-8"


def _value(line: dict[str, Any], field: str) -> Any:
    if field in line:
        return line[field]
    value: Any = line
    for key in field.split("."):
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _keys(line: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in line.items():
        yield prefix + key
        if isinstance(value, dict) and not prefix:
            yield from _keys(value, f"{key}.")
