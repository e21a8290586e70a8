"""Parquet: row groups as parts, columns of every kind of text, damaged files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.data.sources import Parquet
from trainer.errors import UserError

TEXTS = [f"text {number} " + "ä" * (number % 7) for number in range(1000)]


def write(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path, row_group_size=100)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (pa.string(), "text"),
        (pa.large_string(), "text"),
        (pa.binary(), "text"),
        (pa.dictionary(pa.int32(), pa.string()), "text"),
    ],
)
def test_rows_are_documents(tmp_path: Path, kind: Any, field: str) -> None:
    write(tmp_path / "a.parquet", id=list(range(1000)), text=pa.array(TEXTS).cast(kind))
    documents = list(Parquet(type="parquet", path=str(tmp_path), field=field).documents())
    assert [document.text for document in documents] == TEXTS
    assert documents[777].name == f"{tmp_path}/a.parquet#777"


@pytest.mark.parametrize("field", ["meta.body", "meta.deeper.body", "a.b"])
def test_the_text_may_lie_in_a_struct(tmp_path: Path, field: str) -> None:
    meta = pa.array([{"body": text, "deeper": {"body": text, "n": 1}} for text in TEXTS])
    write(tmp_path / "a.parquet", **{"meta": meta, "a.b": TEXTS})
    documents = Parquet(type="parquet", path=str(tmp_path), field=field).documents()
    assert [document.text for document in documents] == TEXTS


def test_row_groups_are_parts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", text=TEXTS)
    source = Parquet(type="parquet", path=str(tmp_path), part_bytes=1)
    parts = source.parts()
    assert [(part.start, part.end) for part in parts] == [(number, number + 1) for number in range(10)] * 2
    assert len({part.name for part in parts}) == 20
    assert [document.text for document in source.read(parts[3])] == TEXTS[300:400]
    large = Parquet(type="parquet", path=str(tmp_path))
    assert len(large.parts()) == 2
    assert list(large.documents()) == list(source.documents())


@pytest.mark.parametrize("kind", ["missing", "number", "list"])
def test_a_column_without_text_is_an_error_that_names_those_with(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "a.parquet", number=[1], list=[["x"]], body=["y"], meta=pa.array([{"text": "z"}]))
    with pytest.raises(UserError, match=rf"a\.parquet has .*{kind!r}") as caught:
        list(Parquet(type="parquet", path=str(tmp_path), field=kind).documents())
    assert caught.value.expected == "a column of text: body, meta.text (all columns: number, list, body, meta.text)"


def test_values_without_usable_text_say_why(tmp_path: Path) -> None:
    offsets = pa.py_buffer(struct.pack("<5i", 0, 1, 3, 3, 103))
    column = pa.Array.from_buffers(pa.string(), 4, [None, offsets, pa.py_buffer(b"a\xff\xfe" + b"x" * 100)])
    write(tmp_path / "a.parquet", text=pa.concat_arrays([column, pa.array([None], pa.string())]))
    found = Parquet(type="parquet", path=str(tmp_path), max_document_bytes=50).documents()
    assert [document.problem for document in found] == [None, "utf-8", "empty", "too-long", "empty"]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda raw: raw[: len(raw) // 2], "truncated"),
        (lambda raw: raw[:-1], "truncated"),
        (lambda raw: b"", "truncated"),
        (lambda raw: b"<html>no such file</html>", "malformed"),
        (lambda raw: raw[:-100] + bytes(92) + raw[-8:], "malformed"),
    ],
)
def test_a_damaged_file_is_told_and_the_next_one_read(tmp_path: Path, damage: Any, problem: str) -> None:
    write(tmp_path / "a.parquet", text=TEXTS)
    (tmp_path / "a.parquet").write_bytes(damage((tmp_path / "a.parquet").read_bytes()))
    write(tmp_path / "b.parquet", text=["b"])
    found = [(document.text, document.problem) for document in Parquet(type="parquet", path=str(tmp_path)).documents()]
    assert found == [(None, problem), ("b", None)]
    with pytest.raises(UserError, match=r"a\.parquet@\d+ is "):
        list(Parquet(type="parquet", path=str(tmp_path), on_error="stop").documents())


@pytest.mark.parametrize("part_bytes", [1, 1 << 30])
def test_a_damaged_page_costs_its_row_group(tmp_path: Path, part_bytes: int) -> None:
    path = tmp_path / "a.parquet"
    write(path, text=TEXTS)
    place = pq.ParquetFile(path).metadata.row_group(5).column(0).data_page_offset
    raw = path.read_bytes()
    path.write_bytes(raw[:place] + b"\xff" * 30 + raw[place + 30 :])
    source = Parquet(type="parquet", path=str(path), part_bytes=part_bytes)
    found = list(source.documents())
    assert [document.text for document in found if document.text] == TEXTS[:500] + TEXTS[600:]
    (told,) = [document for document in found if document.problem]
    assert (told.name, told.problem) == (f"{path}@{place}", "malformed")
