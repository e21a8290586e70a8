"""Stored bytes as a stream: every compression, cut and damaged at any place, local and from a store that fails."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import stamina
from backports import zstd
from fsspec import AbstractFileSystem
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.sources import streams
from trainer.data.sources.streams import Broken, Places, chunks, compression_of, content, next_match, open_stored
from trainer.errors import UserError

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    # As the command line tool writes it: without a checksum damage need not show.
    "zstd": functools.partial(zstd.compress, options={zstd.CompressionParameter.checksum_flag: 1}),
}
TEXT = random.Random(1).randbytes(150_000).hex().encode()


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[bytes], io.RawIOBase]:
    def store(raw: bytes) -> io.RawIOBase:
        (tmp_path / "file").write_bytes(raw)
        return open_stored(str(tmp_path / "file"))

    return store


def read(file: io.RawIOBase, start: int = 0) -> tuple[bytes, Broken | None]:
    """The content up to a break, and the break."""
    pieces = []
    with file:
        try:
            for _, piece in chunks(file, start):
                assert 0 < len(piece) <= streams.CHUNK_BYTES or not pieces
                pieces.append(piece)
        except Broken as broken:
            return b"".join(pieces), broken
    return b"".join(pieces), None


def test_plain_bytes_come_as_they_are(stored: Callable[[bytes], io.RawIOBase]) -> None:
    assert read(stored(TEXT)) == (TEXT, None)
    assert read(stored(b"")) == (b"", None)
    assert read(stored(TEXT), 100) == (TEXT[100:], None)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_members_are_read_to_the_last(name: str, tmp_path: Path, stored: Callable[[bytes], io.RawIOBase]) -> None:
    pack = COMPRESSIONS[name]
    raw = pack(TEXT) + pack(b"") + pack(b"end")
    assert read(stored(raw)) == (TEXT + b"end", None)
    assert compression_of(str(tmp_path / "file")) == name
    # tar and xz fill up with zeros
    assert read(stored(raw + bytes(512))) == (TEXT + b"end", None)
    assert read(stored(raw), len(pack(TEXT))) == (b"end", None)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_member_that_ends_early_is_never_taken_for_whole(name: str, stored: Callable[[bytes], io.RawIOBase]) -> None:
    first, second = COMPRESSIONS[name](b"first"), COMPRESSIONS[name](TEXT)
    for cut in (1, 3, 5, len(second) // 2, len(second) - 1):
        found, broken = read(stored(first + second[:cut]))
        assert found.startswith(b"first")
        assert (b"first" + TEXT).startswith(found)
        assert broken is not None
        assert (broken.problem, broken.offset, broken.member) == ("truncated", len(first) + cut, len(first))
    assert len(read(stored(first + second[:-1]))[0]) > len(TEXT) // 2


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_damage_is_told_with_its_place(name: str, stored: Callable[[bytes], io.RawIOBase]) -> None:
    first, second = COMPRESSIONS[name](b"first"), COMPRESSIONS[name](TEXT)
    middle = len(second) // 2
    damaged = second[:middle] + bytes(byte ^ 0xFF for byte in second[middle : middle + 100]) + second[middle + 100 :]
    found, broken = read(stored(first + damaged))
    assert found.startswith(b"first")
    assert broken is not None
    assert (broken.problem, broken.member) == ("malformed", len(first))
    assert len(first) <= broken.offset <= len(first + damaged)
    # What follows the last member must be one.
    found, broken = read(stored(first + b"rubbish"))
    assert (found, broken and broken.problem) == (b"first", "malformed")


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_file_that_unpacks_to_much_comes_in_small_pieces(name: str, stored: Callable[[bytes], io.RawIOBase]) -> None:
    raw = COMPRESSIONS[name](bytes(20 * streams.CHUNK_BYTES))
    assert len(raw) < streams.READ_BYTES
    sizes = [len(piece) for _, piece in chunks(stored(raw))]
    assert sum(sizes) == 20 * streams.CHUNK_BYTES
    assert max(sizes) <= streams.CHUNK_BYTES


def test_zstd_with_a_window_of_two_gigabytes_is_read(stored: Callable[[bytes], io.RawIOBase]) -> None:
    options = {zstd.CompressionParameter.window_log: 31, zstd.CompressionParameter.enable_long_distance_matching: 1}
    compressor = zstd.ZstdCompressor(options=options)
    # In two calls: a frame that knows its size needs no window.
    raw = compressor.compress(b"long ") + compressor.flush(zstd.ZstdCompressor.FLUSH_BLOCK)
    raw += compressor.compress(b"window") + compressor.flush()
    with pytest.raises(zstd.ZstdError, match=r"(?i)window|memory"):
        zstd.decompress(raw)
    assert read(stored(raw)) == (b"long window", None)


def test_a_missing_package_names_its_extra(
    stored: Callable[[bytes], io.RawIOBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = stored(zstd.compress(b"text"))
    monkeypatch.setitem(sys.modules, "backports", None)
    with pytest.raises(UserError, match="zstd") as caught:
        read(file)
    assert "gpt-run[data]" in caught.value.fix
    # Other compressions need no package.
    assert read(stored(gzip.compress(b"text"))) == (b"text", None)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone"):
        open_stored(str(tmp_path / "gone"))


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=8), compressed=st.booleans())
def test_places_lead_from_the_content_to_the_stored_file(sizes: list[int], compressed: bool) -> None:
    members = [number * 1000 for number in range(len(sizes))]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    given_places = members if compressed else starts
    places = Places(iter(zip(given_places, (bytes(size) for size in sizes), strict=True)), compressed=compressed)
    total = sum(map(len, places.pieces()))
    for offset in range(total):
        if compressed:
            assert places.of(offset) == max(m for m, s, n in zip(members, starts, sizes, strict=True) if s <= offset)
        else:
            assert places.of(offset) == offset


def test_a_pattern_is_found_across_the_pieces_of_a_search(stored: Callable[[bytes], io.RawIOBase]) -> None:
    pattern = re.compile(rb"MAGIC")
    for place in (0, 5, streams.CHUNK_BYTES - 3, streams.CHUNK_BYTES, 2 * streams.CHUNK_BYTES - 1):
        file = stored(bytes(place) + b"MAGIC" + bytes(100))
        assert next_match(file, 0, pattern) == place
        assert next_match(file, place, pattern) == place
        assert next_match(file, place + 1, pattern) is None
        assert next_match(file, 0, pattern, place) is None
        assert next_match(file, 0, pattern, place + 1) == place


def test_content_stops_where_it_is_too_much(stored: Callable[[bytes], io.RawIOBase]) -> None:
    assert content(stored(gzip.compress(b"12345")), 5) == b"12345"
    assert content(stored(gzip.compress(b"123456")), 5) is None


class _FlakyFile(io.BytesIO):
    """A file that answers every second read with an error, and one in ten with less than was asked for."""

    def __init__(self, raw: bytes, error: Exception) -> None:
        super().__init__(raw)
        self.size, self.reads, self._error = len(raw), 0, error

    def read(self, num_bytes: int | None = -1) -> bytes:
        self.reads += 1
        if self.reads % 2:
            raise self._error
        return b"" if self.reads % 10 == 0 else super().read(num_bytes)


class _Flaky(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store with one file."""

    protocol = "flaky"
    raw = b""
    error: Exception = ConnectionError("reset by peer")

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> _FlakyFile:
        return _FlakyFile(self.raw, self.error)


@pytest.fixture
def flaky() -> Iterator[type[_Flaky]]:
    """A store without pauses between attempts."""
    fsspec.register_implementation("flaky", _Flaky, clobber=True)
    with stamina.set_testing(True, attempts=10):
        yield _Flaky


def test_reads_that_fail_for_a_moment_cost_no_byte(flaky: type[_Flaky], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flaky, "raw", gzip.compress(TEXT))
    assert read(open_stored("flaky://file")) == (TEXT, None)


def test_an_error_that_stays_is_no_end_of_the_file(flaky: type[_Flaky], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flaky, "error", PermissionError("expired"))
    monkeypatch.setattr("trainer.storage_errors.REFUSED_SECONDS", 0.0)
    with pytest.raises(UserError, match="access to flaky://file is refused"):
        read(open_stored("flaky://file"))
