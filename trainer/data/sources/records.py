"""Records between delimiters: lines of JSON, texts between markers. Used by `jsonl` and `text_files`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from trainer.data.sources.base import Part
from trainer.data.sources.streams import chunks


class Record(NamedTuple):
    """What stands between two delimiters."""

    offset: int
    """Where it begins: the byte of the file, or of its content where the file is compressed."""
    content: bytes | None
    """None where it is too long to be held."""
    num_bytes: int


def records(file: io.RawIOBase, part: Part, delimiter: bytes, max_bytes: int) -> Iterator[Record]:
    """The records that begin in a part of a file. Raises Broken, after all that are whole."""
    if part.start == 0:
        yield from split((piece for _, piece in chunks(file)), delimiter, max_bytes, end=part.end)
        return
    # The record that a part begins in belongs to the part before; one that begins right here is this part's.
    start = max(0, part.start - len(delimiter))
    found = split(
        (piece for _, piece in chunks(file, start, plain=True)), delimiter, max_bytes, start=start, end=part.end
    )
    yield from (record for record in found if record.offset > start)


def split(
    pieces: Iterable[bytes], delimiter: bytes, max_bytes: int, *, start: int = 0, end: int | None = None
) -> Iterator[Record]:
    """Cut a stream at delimiters; `start` is the offset of its first byte, no record begins at or behind `end`.

    Memory is bounded by `max_bytes` and the longest piece. The last record needs no delimiter behind it.
    """
    pending: list[bytes] = []  # the record under way, as far as it is sure to hold no part of a delimiter
    pending_bytes = 0
    seam = b""  # its last bytes, with which a delimiter may begin
    offset = start
    for piece in pieces:
        *finished, rest = (seam + piece).split(delimiter)
        for content in finished:
            if end is not None and offset >= end:
                return
            num_bytes = pending_bytes + len(content)
            yield _record(offset, [*pending, content], num_bytes, max_bytes)
            offset += num_bytes + len(delimiter)
            pending.clear()
            pending_bytes = 0
        if end is not None and offset >= end:
            return
        edge = max(0, len(rest) - len(delimiter) + 1)
        seam = rest[edge:]
        pending_bytes += edge
        if pending_bytes > max_bytes:
            pending.clear()
        else:
            pending.append(rest[:edge])
    num_bytes = pending_bytes + len(seam)
    if num_bytes and (end is None or offset < end):
        yield _record(offset, [*pending, seam], num_bytes, max_bytes)


def _record(offset: int, pieces: list[bytes], num_bytes: int, max_bytes: int) -> Record:
    return Record(offset, b"".join(pieces) if num_bytes <= max_bytes else None, num_bytes)
