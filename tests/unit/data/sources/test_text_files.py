"""Plain text files: what is a document, and where it comes from."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from trainer.data.sources import Part, TextFiles
from trainer.errors import UserError


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    for name, content in (("b.txt", b"bee"), ("a.txt", b"ay"), ("deep/c.md", b"sea"), (".hidden", b"no")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("", ["ay", "bee", "sea"]), ("*.txt", ["ay", "bee"]), ("**/*.md", ["sea"]), ("b.txt", ["bee"])],
)
def test_text_comes_from_folders_patterns_and_files(texts: Path, pattern: str, expected: list[str]) -> None:
    source = TextFiles(type="text", path=str(texts / pattern))
    assert [document.text for document in source.documents()] == expected
    assert source.total_bytes() == sum(len(text) for text in expected)


def test_relative_patterns_start_at_the_working_folder(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(texts)
    assert [d.text for d in TextFiles(type="text", path="*.txt").documents()] == ["ay", "bee"]


def test_a_file_may_have_a_wildcard_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "part[1].txt").write_text("one")
    (document,) = TextFiles(type="text", path=str(tmp_path / "part[1].txt")).documents()
    assert document.text == "one"


@pytest.mark.parametrize(
    ("content", "problem"),
    [("é".encode("latin-1"), "utf-8"), (b"", "empty"), (b" \n\t", "empty"), (b"x" * 101, "too-long")],
)
def test_a_file_without_usable_text_says_why(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "file.txt").write_bytes(content)
    source = TextFiles(type="text", path=str(tmp_path), max_document_bytes=100)
    (document,) = source.documents()
    assert (document.text, document.problem) == (None, problem)


def test_compressed_text_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes(gzip.compress(b"one"))
    (tmp_path / "cut.txt").write_bytes(gzip.compress(b"two")[:-4])
    found = list(TextFiles(type="text", path=str(tmp_path)).documents())
    assert [(document.text, document.problem) for document in found] == [("one", None), (None, "truncated")]


def test_a_separator_cuts_a_file_into_documents(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_bytes("one<|endoftext|>\n\n<|endoftext|>zwö<|endoftext|>\xff".encode("latin-1"))
    source = TextFiles(type="text", path=str(tmp_path), separator="<|endoftext|>", max_document_bytes=10)
    found = list(source.documents())
    assert [(document.text, document.problem) for document in found] == [
        ("one", None),
        (None, "utf-8"),
        (None, "utf-8"),
    ]
    assert found[0].name.endswith("stories.txt@0")


def test_ranges_of_a_separated_file_give_each_document_once(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_text("<|e|>".join(f"story {number}" for number in range(20)))
    source = TextFiles(type="text", path=str(path), separator="<|e|>")
    whole = list(source.documents())
    assert len(whole) == 20
    for edge in range(1, path.stat().st_size):
        parts = [Part("a", edge, (str(path),), 0, edge), Part("b", 0, (str(path),), edge)]
        assert [document for part in parts for document in source.read(part)] == whole, edge


@pytest.mark.parametrize(("separator", "parts"), [(None, 1), ("ab", 3), ("aa", 1), ("abcab", 1)])
def test_only_separators_that_cannot_be_mistaken_let_a_file_be_cut(
    tmp_path: Path, separator: str | None, parts: int
) -> None:
    (tmp_path / "large.txt").write_text("text" * 75)
    source = TextFiles(type="text", path=str(tmp_path), separator=separator, part_bytes=100)
    assert len(source.parts()) == parts


def test_the_fingerprint_follows_names_sizes_and_times(texts: Path) -> None:
    source = TextFiles(type="text", path=str(texts))
    seen = {source.fingerprint(), source.fingerprint()}
    os.utime(texts / "a.txt", ns=(1, 1))
    seen.add(source.fingerprint())
    (texts / "d.txt").touch()
    seen.add(source.fingerprint())
    assert len(seen) == 3


def test_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no files at"):
        TextFiles(type="text", path=str(tmp_path / "*.txt")).total_bytes()
