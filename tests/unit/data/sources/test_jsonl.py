"""JSON lines: every way in which a line can be wrong, every compression, and cuts anywhere."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
from backports import zstd

from trainer.data.sources import JsonLines, Part
from trainer.errors import UserError

LINES = [{"text": f"text {number} " + "ä" * number, "meta": {"id": number}} for number in range(40)]
CONTENT = "".join(json.dumps(line, ensure_ascii=bool(number % 2)) + "\n" for number, line in enumerate(LINES)).encode()
TEXTS = [line["text"] for line in LINES]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_lines_are_documents_however_they_are_packed(tmp_path: Path, pack: type[bytes]) -> None:
    (tmp_path / "lines").write_bytes(pack(CONTENT))
    documents = list(JsonLines(type="jsonl", path=str(tmp_path / "lines")).documents())
    assert [document.text for document in documents] == TEXTS
    assert [document.num_bytes for document in documents] == [len(str(text).encode()) for text in TEXTS]
    # The place is that of the unpacked line.
    starts = [CONTENT.index(json.dumps(f"text {number} ")[:-1].encode()) - len('{"text": ') for number in range(40)]
    assert [document.name for document in documents] == [f"{tmp_path}/lines@{start}" for start in starts]


def test_plain_files_are_cut_into_ranges_and_packed_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(CONTENT)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(CONTENT, 0))
    source = JsonLines(type="jsonl", path=str(tmp_path), part_bytes=100)
    assert len([part for part in source.parts() if part.files[0].endswith(".gz")]) == 1
    assert len(source.parts()) > 20
    assert [document.text for document in source.documents()] == TEXTS * 2


def test_every_cut_gives_each_line_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(CONTENT)
    source = JsonLines(type="jsonl", path=str(path))
    whole = list(source.documents())
    for edge in range(1, len(CONTENT), 7):
        halves = [Part("", 0, (str(path),), 0, edge), Part("", 0, (str(path),), edge)]
        assert [document for part in halves for document in source.read(part)] == whole


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"text": "\xff"}', "utf-8"),
        (b'{"text": "\\ud800 alone"}', "utf-8"),
        (b'{"text": "cut of', "malformed"),
        (b"[" * 1000, "malformed"),
        (b'["text"]', "malformed"),
        (b'{"text": 5}', "malformed"),
        (b'{"text": null}', "empty"),
        (b'{"text": " \\n"}', "empty"),
        (b'{"body": "other"}', "empty"),
        (b'{"text": "' + b"x" * 3000 + b'"}', "too-long"),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_line_without_usable_text_says_why(tmp_path: Path, line: bytes, problem: str, last: bool) -> None:
    good = [b'{"text": "good"}', b""]
    (tmp_path / "a.jsonl").write_bytes(b"\r\n".join([*good, line] if last else [line, *good]))
    source = JsonLines(type="jsonl", path=str(tmp_path), max_document_bytes=2000)
    found = [(document.text, document.problem) for document in source.documents()]
    assert found == [("good", None), (None, problem)] if last else [(None, problem), ("good", None)]


def test_a_truncated_file_gives_what_came_before(tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT * 50)
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    *before, last = JsonLines(type="jsonl", path=str(tmp_path)).documents()
    assert len(before) > 500
    assert [document.text for document in before] == (TEXTS * 50)[: len(before)]
    assert last == (f"{tmp_path}/a.jsonl.gz@{len(packed) // 2}", None, 0, "truncated")


@pytest.mark.parametrize("field", ["data.body", "a.b"])
def test_a_field_may_lie_deeper(tmp_path: Path, field: str) -> None:
    line = {"data": {"body": "here"}, "a.b": "here", "a": {"b": "not here"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    (document,) = JsonLines(type="jsonl", path=str(tmp_path), field=field).documents()
    assert document.text == "here"


def test_a_field_that_is_null_or_missing_in_some_lines_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"body": "other"}\n')
    found = [document.problem for document in JsonLines(type="jsonl", path=str(tmp_path)).documents()]
    assert found == ["empty", "empty"]


@pytest.mark.parametrize("copies", [1, 100])
def test_a_field_that_no_line_has_is_an_error_that_names_those_there_are(tmp_path: Path, copies: int) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{broken\n" + CONTENT * copies)
    with pytest.raises(UserError, match="has the field 'body'") as caught:
        list(JsonLines(type="jsonl", path=str(tmp_path), field="body").documents())
    assert "meta, meta.id, text" in caught.value.expected
