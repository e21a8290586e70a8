"""The corpus of this installation as a source."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from trainer.data import corpus
from trainer.data.sources import PythonLibrary


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
    assert corpus.library_files() == (("whole.py", tmp_path / "whole.py"),)


def test_a_cap_ends_the_corpus_before_it_is_exceeded() -> None:
    capped = PythonLibrary(type="python-library", max_bytes=3_000_000)
    documents = list(capped.documents())
    whole = PythonLibrary(type="python-library").documents()
    assert [next(whole).name for _ in documents] == [document.name for document in documents]
    total = sum(document.num_bytes for document in documents)
    assert total <= capped.total_bytes() == 3_000_000 < total + next(whole).num_bytes
    assert capped.fingerprint() != PythonLibrary(type="python-library").fingerprint()
    installation = corpus.installation()
    assert capped.record() == {"type": "python-library", "max_bytes": 3_000_000, "installation": installation}


def test_parts_are_read_by_themselves_and_hold_each_document_once() -> None:
    source = PythonLibrary(type="python-library", max_bytes=6_000_000)
    parts = source.parts()
    assert len(parts) == len({part.name for part in parts}) > 2
    elsewhere = pickle.loads(pickle.dumps((source, parts)))
    backwards = [list(elsewhere[0].read(part)) for part in reversed(elsewhere[1])]
    assert [document for part in reversed(backwards) for document in part] == list(source.documents())
    assert sum(part.num_bytes for part in parts) == sum(document.num_bytes for document in source.documents())


def test_a_cap_below_the_first_document_leaves_nothing() -> None:
    assert PythonLibrary(type="python-library", max_bytes=1).parts() == []
