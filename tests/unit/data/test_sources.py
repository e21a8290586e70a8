"""Sources of text: the corpus of this installation, and text files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer.data import corpus
from trainer.data.sources import PythonLibrary, TextFiles
from trainer.errors import UserError


def test_the_corpus_is_real_text_in_a_fixed_order() -> None:
    names = [name for name, _ in corpus.library_files()]
    assert names == [name for name, _ in corpus.library_files()]
    assert len(set(names)) == len(names)
    assert {"json/__init__.py", "os.py"} <= set(names)
    assert not [name for name in names if "site-packages" in name or "__pycache__" in name]
    # Not by folder: a cap would leave whole packages out.
    assert names != sorted(names)
    assert PythonLibrary(type="python-library").total_bytes() > 5_000_000


def test_links_that_point_nowhere_are_no_part_of_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole.py").write_text("pass")
    (tmp_path / "sitecustomize.py").symlink_to(tmp_path / "etc" / "sitecustomize.py")
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda _: str(tmp_path))
    assert corpus.library_files() == [("whole.py", tmp_path / "whole.py")]


def test_a_cap_ends_the_corpus_before_it_is_exceeded() -> None:
    capped = PythonLibrary(type="python-library", max_bytes=2_000_000)
    documents = list(capped.documents())
    whole = PythonLibrary(type="python-library").documents()
    assert [next(whole).name for _ in documents] == [document.name for document in documents]
    total = sum(document.num_bytes for document in documents)
    assert total <= capped.total_bytes() == 2_000_000 < total + next(whole).num_bytes
    assert capped.fingerprint() != PythonLibrary(type="python-library").fingerprint()


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


def test_a_file_that_is_not_utf8_has_no_text(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (document,) = TextFiles(type="text", path=str(tmp_path)).documents()
    assert (document.text, document.num_bytes) == (None, 1)


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
