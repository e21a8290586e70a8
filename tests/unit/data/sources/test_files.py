"""Files of a source: which there are, how they are cut into parts, and what a fault does."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.sources import JsonLines, Part, TextFiles
from trainer.data.sources.files import File, cut, grouped, list_files
from trainer.errors import UserError

SIZES = st.lists(st.integers(0, 300), max_size=12)


@pytest.fixture
def memory() -> Iterator[Any]:
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("memory://bucket", ["a.txt", "deep/c.md", "deep.txt", "part[1].txt"]),
        ("memory://bucket/deep", ["deep/c.md"]),
        ("memory://bucket/*.txt", ["a.txt", "deep.txt", "part[1].txt"]),
        ("memory://bucket/part[1].txt", ["part[1].txt"]),
        ("memory://bucket/none.txt", []),
        ("memory://elsewhere", []),
    ],
)
def test_remote_files_are_found_like_local_ones(memory: Any, path: str, expected: list[str]) -> None:
    for name in ("a.txt", "deep.txt", "deep/c.md", "part[1].txt", ".hidden", "deep/.cache/d.txt"):
        memory.pipe(f"/bucket/{name}", name.encode())
    found = list_files(path)
    assert [file.url for file in found] == [f"memory:///bucket/{name}" for name in expected]
    assert [file.num_bytes for file in found] == [len(name) for name in expected]


def test_local_files_come_in_the_order_of_remote_ones(tmp_path: Path) -> None:
    for name in ("deep.txt", "deep/c.md", "a.txt", "deep-er/d.txt", "SHA256SUMS"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [file.url.removeprefix(f"{tmp_path}/") for file in list_files(str(tmp_path))]
    assert found == ["a.txt", "deep/c.md", "deep-er/d.txt", "deep.txt"]


def test_remote_documents_are_those_of_the_files(memory: Any) -> None:
    memory.pipe("/bucket/a.txt", b"one")
    memory.pipe("/bucket/b.txt", gzip.compress(b"two"))
    source = TextFiles(type="text", path="memory://bucket")
    assert [document.text for document in source.documents()] == ["one", "two"]


def test_what_is_recorded_holds_no_secret() -> None:
    source = TextFiles(type="text", path="https://user:password@host/data/*.txt?signature=abc", on_error="stop")
    assert source.record() == {"type": "text", "path": "https://host/data/*.txt", "on_error": "stop"}


@given(sizes=SIZES, part_bytes=st.integers(1, 400))
def test_small_files_share_parts_in_their_order(sizes: list[int], part_bytes: int) -> None:
    files = [File(f"f{number}", size, "") for number, size in enumerate(sizes)]
    parts = grouped(files, part_bytes)
    assert [url for part in parts for url in part.files] == [file.url for file in files]
    assert sum(part.num_bytes for part in parts) == sum(sizes)
    assert len({part.name for part in parts}) == len(parts)
    for part, following in itertools.pairwise(parts):
        assert len(part.files) == 1 or part.num_bytes <= part_bytes
        assert part.num_bytes + files[int(following.files[0][1:])].num_bytes > part_bytes


@given(sizes=SIZES, part_bytes=st.integers(1, 100), odd_can=st.booleans())
def test_large_files_are_cut_without_gap_or_overlap(sizes: list[int], part_bytes: int, odd_can: bool) -> None:
    files = [File(f"f{number}", size, "") for number, size in enumerate(sizes)]
    parts = cut(files, lambda file: odd_can or int(file.url[1:]) % 2 == 0, part_bytes)
    assert len({part.name for part in parts}) == len(parts)
    seen: dict[str, list[Part]] = {}
    for part in parts:
        for url in part.files:
            seen.setdefault(url, []).append(part)
    assert list(seen) == [file.url for file in files]
    for file in files:
        own = seen[file.url]
        assert own[0].start == 0
        assert own[-1].end is None
        assert all(part.end == following.start for part, following in itertools.pairwise(own))
        if len(own) > 1:
            assert sum(part.num_bytes for part in own) == file.num_bytes
            assert max(part.num_bytes for part in own) <= part_bytes
        else:
            assert file.num_bytes <= part_bytes or not (odd_can or int(file.url[1:]) % 2 == 0)


def test_a_fault_stops_where_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(b'{"text": "one"}\n{"text": \n{"text": "two"}\n')
    skipping = JsonLines(type="jsonl", path=str(path))
    assert [document.problem for document in skipping.documents()] == [None, "malformed", None]
    stopping = JsonLines(type="jsonl", path=str(path), on_error="stop")
    documents = stopping.documents()
    assert next(documents).text == "one"
    with pytest.raises(UserError, match=r"file\.jsonl@16 is not readable as jsonl") as caught:
        next(documents)
    assert "on_error: skip" in caught.value.fix


def test_a_broken_file_does_not_cost_the_next_one_of_its_part(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(gzip.compress(b"one" * 1000)[:-10])
    (tmp_path / "b.txt").write_text("two")
    source = TextFiles(type="text", path=str(tmp_path))
    assert len(source.parts()) == 1
    assert [(document.text, document.problem) for document in source.documents()] == [
        (None, "truncated"),
        ("two", None),
    ]
    with pytest.raises(UserError, match=r"a\.txt@\d+ is cut off"):
        list(TextFiles(type="text", path=str(tmp_path), on_error="stop").documents())
