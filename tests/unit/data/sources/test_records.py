"""Records between delimiters, however the stream comes in pieces and wherever a part begins."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from trainer.data.sources import Part
from trainer.data.sources.records import Record, records, split
from trainer.data.sources.streams import open_stored

DELIMITERS = st.sampled_from([b"\n", b"ab", b"<page>", b"aba"])
CONTENT = st.lists(st.sampled_from([b"a", b"b", b"c", b"\n", b"ab", b"<page>", b"<pa"]), max_size=40).map(b"".join)


def pieces(content: bytes, sizes: list[int]) -> list[bytes]:
    file = io.BytesIO(content)
    return [*(file.read(size) for size in sizes), file.read()]


@given(content=CONTENT, delimiter=DELIMITERS, sizes=st.lists(st.integers(1, 5)))
def test_pieces_do_not_show_in_the_records(content: bytes, delimiter: bytes, sizes: list[int]) -> None:
    expected, offset = [], 0
    for part in content.split(delimiter):
        expected.append(Record(offset, part, len(part)))
        offset += len(part) + len(delimiter)
    if not expected[-1].num_bytes:
        expected.pop()
    assert list(split(pieces(content, sizes), delimiter, 1000)) == expected


@given(content=CONTENT, sizes=st.lists(st.integers(1, 5)), max_bytes=st.integers(1, 6))
def test_long_records_are_told_but_not_held(content: bytes, sizes: list[int], max_bytes: int) -> None:
    whole = list(split([content], b"\n", 1000))
    bounded = list(split(pieces(content, sizes), b"\n", max_bytes))
    assert bounded == [r if r.num_bytes <= max_bytes else Record(r.offset, None, r.num_bytes) for r in whole]


@given(data=st.data(), content=CONTENT, delimiter=st.sampled_from([b"\n", b"ab", b"<page>"]))
def test_every_record_belongs_to_one_part(
    data: st.DataObject, content: bytes, delimiter: bytes, tmp_path_factory: object
) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "cut.txt"  # type: ignore[attr-defined]  # one file for all examples
    path.write_bytes(content)
    edges = sorted(data.draw(st.sets(st.integers(1, max(1, len(content) - 1)), max_size=4)))
    starts, ends = [0, *edges], [*edges, None]
    parts = [Part("", 0, (str(path),), start, end) for start, end in zip(starts, ends, strict=True)]
    with open_stored(str(path)) as file:
        whole = list(records(file, Part("", 0, (str(path),)), delimiter, 1000))
        cut = [record for part in parts for record in records(file, part, delimiter, 1000)]
    assert cut == whole
