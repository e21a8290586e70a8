"""Raw token files as other projects write them: what a file holds, and its tokens as a mapped shard.

    nanoGPT        .bin   bare uint16, no header
    llm.c          .bin   256 int32 of header (magic, version, token count), then uint16 or uint32
    build-nanogpt  .npy   one integer array
    NumPy archive  .npz   one or more integer arrays, in the order of their names

`inspect_file` reads headers only, also of remote files; `open_raw_shard` maps a local file. Called by `dataset`.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from trainer.data.cache import ShardCache
from trainer.data.remote import Location
from trainer.data.shards import MappedShard, Tokens
from trainer.errors import UserError

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    KeyError,
)
SUFFIXES = (".bin", ".npy", ".npz")
LLMC_HEADER_BYTES = 1024
# (magic, version) -> type of the tokens
LLMC_KINDS: dict[tuple[int, int], np.dtype[Any]] = {(20240520, 1): np.dtype("<u2"), (20240801, 7): np.dtype("<u4")}


@dataclass(frozen=True)
class Member:
    """One array inside a file: where its bytes begin (None where they are compressed), its type and length."""

    name: str
    offset: int | None
    dtype: np.dtype[Any]
    tokens: int


@dataclass(frozen=True)
class RawFile:
    """What the headers of a raw file say."""

    size: int
    members: tuple[Member, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all members."""
        return sum(member.tokens for member in self.members)

    @property
    def token_bytes(self) -> int:
        """Bytes that the tokens take, whatever the compression."""
        return sum(member.tokens * member.dtype.itemsize for member in self.members)


def inspect_file(location: Location) -> RawFile:
    """Read a file's headers. Raises UserError for an empty, truncated or unknown file."""
    info = location.info()
    if info is None:
        raise FileNotFoundError(location.url)
    size = int(info["size"])
    if size == 0:
        raise _refuse(location.url, "is empty", "a file with tokens")
    suffix = Path(location.name).suffix
    members: tuple[Member, ...]
    if suffix == ".bin":
        members = (_bin_member(location, size),)
    elif suffix == ".npy":
        with location.open() as file:
            members = (_array_member(file, location, "", size),)
    else:
        members = _archive_members(location)
    for member in members:
        room = size - (member.offset or 0)
        if member.tokens < 0 or (member.offset is not None and member.tokens * member.dtype.itemsize > room):
            found = f"has {size} bytes, its headers say {member.tokens} {member.dtype} from byte {member.offset} on"
            raise _refuse(location.url, found, "a file that holds the tokens its headers tell of")
    return RawFile(size, members)


def open_raw_shard(path: Path, raw: RawFile, cache: Callable[[], ShardCache]) -> MappedShard:
    """Map the tokens of a local file; compressed archive members, and only these, are unpacked into the cache first.

    Raises FileNotFoundError where another process took a cached copy away; it may be asked for again.
    """
    # Opened once for all members: making room for the first may cost the file its name, when it is a cached copy.
    with path.open("rb") as file:
        return MappedShard([_map_member(path, file, member, cache) for member in raw.members])


def _bin_member(location: Location, size: int) -> Member:
    if location.local is not None and location.local.with_suffix(".idx").exists():
        raise _refuse(location.url, "lies beside a .idx file, as Megatron writes them", "nanoGPT's or llm.c's .bin")
    head = np.frombuffer(location.read(0, min(size, LLMC_HEADER_BYTES)).ljust(LLMC_HEADER_BYTES, b"\xff"), dtype="<i4")
    magic, version, count = (int(value) for value in head[:3])
    dtype = LLMC_KINDS.get((magic, version))
    if dtype is not None:
        needed = LLMC_HEADER_BYTES + count * dtype.itemsize
        if size != needed:
            raise _refuse(location.url, f"has {size} bytes", f"{needed} bytes: its header says {count} {dtype} tokens")
        return Member(location.name, LLMC_HEADER_BYTES, dtype, count)
    if 20240000 <= magic < 20300000 and not head[3:].any():
        known = ", ".join(f"{m} version {v}" for m, v in LLMC_KINDS)
        raise _refuse(location.url, f"has an llm.c header with magic {magic} version {version}", f"magic {known}")
    if size % 2:
        raise _refuse(location.url, f"has {size} bytes, an odd number", "uint16 tokens, or an llm.c header")
    return Member(location.name, 0, np.dtype("<u2"), size // 2)


def _archive_members(location: Location) -> tuple[Member, ...]:
    with _damage_named(location.url), location.open() as file, zipfile.ZipFile(file) as archive:
        return tuple(
            _zip_member(archive, entry, location) for entry in sorted(archive.infolist(), key=lambda e: e.filename)
        )


def _zip_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, location: Location) -> Member:
    with archive.open(entry) as file:
        member = _array_member(file, location, entry.filename, entry.file_size)
    if entry.compress_type != zipfile.ZIP_STORED:
        return Member(member.name, None, member.dtype, member.tokens)
    # A stored member can be mapped in place: behind its local header, whose last two lengths may differ from the index.
    stream = archive.fp
    assert stream is not None, "the archive is open"
    stream.seek(entry.header_offset + 26)
    lengths = np.frombuffer(stream.read(4), dtype="<u2")
    assert member.offset is not None, "arrays of plain files have an offset"
    return Member(
        member.name, entry.header_offset + 30 + int(lengths.sum()) + member.offset, member.dtype, member.tokens
    )


def _array_member(file: Any, location: Location, name: str, size: int) -> Member:
    """Read the .npy header at the start of a stream of `size` bytes."""
    where = f"{location.url}[{name}]" if name else location.url
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError) as error:  # NumPy reads the header as Python
        raise _refuse(location.url, f"has no NumPy header: {error}", "a .npy array of integers") from error
    if dtype.kind not in "iu" or len(shape) != 1:
        raise UserError(
            f"{where} is an array of {dtype}, shape {tuple(shape)}",
            expected="a one-dimensional array of integers (uint16, uint32, ...)",
            fix="save the token ids as one flat uint16 or uint32 array",
        )
    offset = file.tell()
    if size != offset + shape[0] * dtype.itemsize:
        raise _refuse(
            location.url,
            f"has {size} bytes",
            f"{offset + shape[0] * dtype.itemsize}: its header says {shape[0]} {dtype}",
        )
    return Member(name or location.name, offset, dtype, int(shape[0]))


def _map_member(path: Path, file: BinaryIO, member: Member, cache: Callable[[], ShardCache]) -> Tokens:
    if member.tokens == 0:
        return np.empty(0, dtype=member.dtype)
    if member.offset is not None:
        return np.memmap(file, dtype=member.dtype, mode="r", offset=member.offset, shape=(member.tokens,))
    stat = os.fstat(file.fileno())
    # A cached copy's name says which version it is, and its time only when it was used.
    changed = 0 if path.parent == cache().folder else stat.st_mtime_ns
    identity = f"{path.resolve()}/{stat.st_size}/{changed}/{member.name}"
    key = f"{hashlib.sha256(identity.encode()).hexdigest()}-{path.stem}.npy"
    size = member.tokens * member.dtype.itemsize + LLMC_HEADER_BYTES

    def unpack(target: Path) -> None:
        with (
            _damage_named(f"{path}[{member.name}]"),
            zipfile.ZipFile(file) as archive,
            archive.open(member.name) as source,
            target.open("wb") as out,
        ):
            while block := source.read(1 << 22):
                out.write(block)

    unpacked = cache().derive(key, size, unpack)
    mapped: Tokens = np.load(unpacked, mmap_mode="r")
    return mapped


@contextmanager
def _damage_named(where: str) -> Iterator[None]:
    """Turn what zipfile raises for a damaged, encrypted or unknown archive into a UserError."""
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        # Decompressors raise OSError without a number; one with a number is the system's, but for a seek to nowhere.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise _refuse(where, f"is not a whole archive: {error}", "a .npz file as NumPy writes it") from error


def _refuse(where: str, found: str, expected: str) -> UserError:
    return UserError(f"{where} {found}", expected=expected, fix="copy or write the file again, or leave it out")
