"""The hashing stream passes every byte on, in order, and its hash is that of the whole."""

from __future__ import annotations

import hashlib
import io

from hypothesis import given
from hypothesis import strategies as st

from trainer.checkpoint.writer import COLLECT_BYTES, SLICE_BYTES, HashingStream

sizes = st.sampled_from([0, 1, 7, COLLECT_BYTES - 1, COLLECT_BYTES, SLICE_BYTES + 3])


class PartialSink(io.BytesIO):
    """Takes at most a megabyte at a time, as unbuffered files may."""

    def write(self, data: memoryview) -> int:  # type: ignore[override]  # only ever given views
        return super().write(data[: 2**20])


@given(st.lists(sizes, max_size=6))
def test_bytes_and_hash_of_the_whole(sizes: list[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    sink, copy = PartialSink(), io.BytesIO()
    stream = HashingStream(sink, copy)
    for piece in pieces:
        assert stream.write(piece) == len(piece)
    whole = b"".join(pieces)
    assert stream.tell() == len(whole)
    entry = stream.finish()
    assert sink.getvalue() == copy.getvalue() == whole
    assert (entry.bytes, entry.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
