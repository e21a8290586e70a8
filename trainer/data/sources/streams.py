"""Stored bytes as a stream: local or remote, plain or compressed, in bounded memory and with every break noticed.

The file sources of this package read through `open_stored` and `chunks`. Compression is told by the first bytes, not by
the name. Libraries' readers were not taken where they pass over a truncated end in silence (docs/decisions/sources.md).
"""

from __future__ import annotations

import bisect
import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, cast

from trainer.data.remote import Location, locate
from trainer.data.sources.base import Fault
from trainer.errors import UserError
from trainer.extras import needs
from trainer.storage_errors import clean_url

# Read from the file at once. A damaged stream is named to within this many bytes.
READ_BYTES = 1 << 16
# The most that a decoder gives at once: a file may unpack to a thousand times its size.
CHUNK_BYTES = 1 << 20
# Dumps of Reddit are compressed with windows of 2 GiB, which decoders refuse unless they are told to expect them.
ZSTD_WINDOW_LOG = 31

Compression = Literal["gzip", "bz2", "xz", "zstd"]
MAGIC: dict[bytes, Compression] = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class Broken(Exception):
    """A file that cannot be read on from here: it ends too early, or its bytes make no sense."""

    def __init__(self, problem: Fault, offset: int, member: int = 0) -> None:
        """offset: where in the stored file. member: where the compressed member with the break begins."""
        super().__init__(f"{problem} at byte {offset}")
        self.problem: Fault = problem
        self.offset = offset
        self.member = member


class _Decoder(Protocol):
    """What the decompressors of bz2, lzma and zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def open_stored(url: str) -> io.RawIOBase:
    """The bytes of a file as stored. Raises UserError where it is gone, or access to it is refused."""
    try:
        return _Stored(locate(url))
    except FileNotFoundError as error:
        raise UserError(
            f"{clean_url(url)} is gone",
            expected="the files that were there when the sources were listed",
            fix="run again; leave the sources as they are while they are read",
        ) from error


def compression_of(url: str) -> Compression | None:
    """How a file is compressed, from its first bytes."""
    with open_stored(url) as file:
        return _compression(_read(file, max(map(len, MAGIC))))


def chunks(file: io.RawIOBase, start: int = 0, *, plain: bool = False) -> Iterator[tuple[int, bytes]]:
    """The content from stored byte `start` on, decompressed, in pieces of at most CHUNK_BYTES.

    With each piece comes where it lies in the stored file: itself, or the compressed member (gzip member, bz2 stream,
    zstd frame) that it is part of. A compressed file can be entered where a member begins; `plain` says that the file
    is not compressed, whatever its bytes at `start` look like. Raises Broken.
    """
    file.seek(start)
    head = _read(file, READ_BYTES)
    compression = None if plain else _compression(head)
    if compression is None:
        yield start, head
        position = start + len(head)
        while piece := _read(file, CHUNK_BYTES):
            yield position, piece
            position += len(piece)
    elif head:
        yield from _decompressed(file, _decoders(compression), head, start)


class Places:
    """The pieces of a stream, and where in the stored file any byte of the content lies that has been handed out."""

    def __init__(self, pieces: Iterator[tuple[int, bytes]], *, compressed: bool) -> None:
        """pieces: what `chunks` gives."""
        self._pieces, self._compressed = pieces, compressed
        self._offsets: list[int] = []
        self._places: list[int] = []
        self._num_bytes = 0

    def pieces(self) -> Iterator[bytes]:
        """The content alone."""
        for place, piece in self._pieces:
            if not self._places or place != self._places[-1]:
                self._offsets.append(self._num_bytes)
                self._places.append(place)
            self._num_bytes += len(piece)
            yield piece

    def of(self, offset: int) -> int:
        """Where the byte `offset` of the content is stored: exactly, or the compressed member that holds it."""
        number = bisect.bisect_right(self._offsets, offset) - 1
        return self._places[number] + (0 if self._compressed else offset - self._offsets[number])


def next_match(file: io.RawIOBase, start: int, pattern: re.Pattern[bytes], end: int | None = None) -> int | None:
    """The first place from `start` on and before `end` where the stored bytes match a pattern of at most 16 bytes."""
    file.seek(start)
    block, offset = b"", start
    while (end is None or offset < end) and (piece := _read(file, CHUNK_BYTES)):
        block += piece
        found = pattern.search(block)
        if found:
            place = offset + found.start()
            return place if end is None or place < end else None
        offset += max(0, len(block) - 16)
        block = block[-16:]
    return None


def content(file: io.RawIOBase, max_bytes: int) -> bytes | None:
    """All of a file, decompressed, or None where it is longer than `max_bytes`. Raises Broken."""
    pieces, held = [], 0
    for _, piece in chunks(file):
        held += len(piece)
        if held > max_bytes:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _decompressed(
    file: io.RawIOBase, new_decoder: Callable[[], _Decoder], data: bytes, start: int
) -> Iterator[tuple[int, bytes]]:
    damage: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, *_zstd_errors())
    decoder, member = new_decoder(), start
    read = start + len(data)
    while True:
        try:
            piece = decoder.decompress(data, CHUNK_BYTES)
        except damage as error:
            raise Broken("malformed", read - len(data), member) from error
        data = b""
        if piece:
            yield member, piece
        if decoder.eof:
            # Members follow each other; zeros between them are padding.
            data = decoder.unused_data.lstrip(b"\0")
            while not data:
                more = _read(file, READ_BYTES)
                if not more:
                    return
                read += len(more)
                data = more.lstrip(b"\0")
            decoder, member = new_decoder(), read - len(data)
        elif decoder.needs_input:
            data = _read(file, READ_BYTES)
            read += len(data)
            if not data:
                raise Broken("truncated", read, member)


def _compression(head: bytes) -> Compression | None:
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def _decoders(compression: Compression) -> Callable[[], _Decoder]:
    if compression == "bz2":
        return bz2.BZ2Decompressor
    if compression == "xz":
        return lzma.LZMADecompressor
    if compression == "gzip":
        return _GzipDecoder
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
    return lambda: cast(_Decoder, zstd.ZstdDecompressor(options=options))


def _zstd() -> Any:
    with needs("data", "files compressed with zstd"):
        from backports import zstd
    return zstd


def _zstd_errors() -> tuple[type[Exception], ...]:
    try:
        from backports import zstd
    except ImportError:
        return ()
    return (zstd.ZstdError,)


class _GzipDecoder:
    """zlib's decompressor with the face of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max(max_length, 0))


class _Stored(io.RawIOBase):
    """A stored file whose reads are tried again after errors that may heal, and which never ends before its size."""

    def __init__(self, location: Location) -> None:
        self._name = clean_url(location.url)
        self._file = location.open()
        # A web server that tells no size sends its file once, from the start: nothing can be asked for again.
        self._size: int | None = getattr(self._file, "size", None)
        self._location = location

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._size is not None

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset == self.tell():
            return offset
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        def once() -> bytes:
            return self._read_once(len(buffer))

        piece = self._location.call(once) if self.seekable() else once()
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _read_once(self, num_bytes: int) -> bytes:
        piece: bytes = self._file.read(num_bytes)
        if not piece and num_bytes and self._size is not None and self.tell() < self._size:
            raise ConnectionError(f"{self._name} ended at byte {self.tell()} of {self._size}")
        return piece


def _read(file: io.RawIOBase, num_bytes: int) -> bytes:
    """What is there of the next bytes; less than asked for means the end."""
    pieces = []
    while num_bytes and (piece := file.read(num_bytes)):
        pieces.append(piece)
        num_bytes -= len(piece)
    return b"".join(pieces)
