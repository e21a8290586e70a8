"""Sorted runs: all documents with equal keys are linked, whatever the parts, buffers and ranges; kills lose nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.clean.near import later_in_clusters
from trainer.data.clean.runs import RunWriter, Words, find_links, kept_result

# Keys on both sides of every border of ranges, at the ends of their space, and equal in one word of two.
KEYS = [0, 1, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1]
records = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS), st.integers(0, 30)), max_size=60)


def write(folder: Path, part: int, rows: list[tuple[int, ...]], *, buffer_bytes: int = 1 << 20) -> None:
    words = len(rows[0]) - 1 if rows else 1
    with RunWriter(folder, part, words=words, buffer_bytes=buffer_bytes) as writer:
        for row in rows:
            writer.add(np.array([row], dtype=np.uint64).T)


def clusters(pairs: Iterable[tuple[Any, int]]) -> set[int]:
    """Documents that share a key with an earlier one, directly or by others: one naive pass after another."""
    pairs = list(pairs)
    first = {document: document for _, document in pairs}
    for _ in pairs:
        for key, document in pairs:
            for other_key, other in pairs:
                if key == other_key:
                    first[document] = min(first[document], first[other])
    return {document for document, root in first.items() if root != document}


@given(st.integers(1, 2), records, st.integers(1, 4), st.sampled_from([16, 100, 1 << 20]), st.integers(1, 9))
@settings(max_examples=40)
def test_links_join_what_has_equal_keys(
    words: int, rows: list[tuple[int, int, int]], parts: int, buffer_bytes: int, ranges: int
) -> None:
    rows = [(*row[:words], row[2]) for row in rows]
    with TemporaryDirectory() as name:
        folder = Path(name)
        for part in range(parts):
            write(folder, part, rows[part::parts], buffer_bytes=buffer_bytes)
        memory_bytes = max(1, len(rows) * words * 40 // ranges)
        later = later_in_clusters(find_links(folder, words=words, memory_bytes=memory_bytes, run=map))
    assert set(later.tolist()) == clusters((row[:-1], row[-1]) for row in rows)
    assert np.all(np.diff(later.astype(np.int64)) > 0)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=80))
def test_all_but_the_first_of_a_cluster_are_later(edges: list[tuple[int, int]]) -> None:
    pairs = [(number, document) for number, edge in enumerate(edges) for document in edge]
    with TemporaryDirectory() as name:
        paths = [Path(name) / f"{number}.npy" for number in range(2)]
        for number, path in enumerate(paths):
            np.save(path, np.array(edges[number::2], dtype=np.uint64).reshape(-1, 2).T)
        assert set(later_in_clusters(paths).tolist()) == clusters(pairs)


def test_a_long_chain_is_one_cluster(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(np.arange(1, 100_000, dtype=np.uint64))
    np.save(tmp_path / "links.npy", np.vstack([order, order - 1]))
    assert np.array_equal(later_in_clusters([tmp_path / "links.npy"]), np.arange(1, 100_000, dtype=np.uint64))


def test_a_part_that_failed_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path, 0, [(5, 1)])

    def fail() -> None:
        with RunWriter(tmp_path, 1, words=1, buffer_bytes=8) as writer:
            writer.add(np.array([[5], [2]], dtype=np.uint64))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["00000000"]


def test_what_a_killed_writer_left_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, 0, [(5, 1)])
    killed = RunWriter(tmp_path, 1, words=1, buffer_bytes=8)
    killed.__enter__()
    killed.add(np.array([[5], [2]], dtype=np.uint64))
    assert not len(later_in_clusters(find_links(tmp_path, words=1, memory_bytes=1 << 20, run=map)))


def test_a_part_that_is_written_again_replaces_the_first(tmp_path: Path) -> None:
    write(tmp_path, 0, [(5, 1), (5, 2)])
    write(tmp_path, 0, [(5, 3), (5, 4)])
    assert later_in_clusters(find_links(tmp_path, words=1, memory_bytes=1 << 20, run=map)).tolist() == [4]


def test_an_interrupted_search_goes_on(tmp_path: Path) -> None:
    write(tmp_path, 0, [(key, number) for number, key in enumerate([*KEYS, *KEYS])])
    calls: list[int] = []

    def interrupted(work: Callable[[Any], None], tasks: Iterable[Any]) -> Iterable[None]:
        for task in tasks:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            yield work(task)

    arguments: dict[str, Any] = {"words": 1, "memory_bytes": len(KEYS) * 40 // 4}
    with pytest.raises(KeyboardInterrupt):
        find_links(tmp_path, run=interrupted, **arguments)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "links").iterdir()}
    assert len(done) == 2
    (tmp_path / "links" / ".000003-of-000009.npy.killed").write_bytes(b"half")
    links = find_links(tmp_path, run=interrupted, **arguments)
    assert later_in_clusters(links).tolist() == list(range(len(KEYS), 2 * len(KEYS)))
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert {path.name for path in (tmp_path / "links").iterdir()} == {path.name for path in links if "of" in path.name}


def test_a_result_is_found_once(tmp_path: Path) -> None:
    found: list[int] = []

    def find() -> Words:
        found.append(1)
        return np.array([3, 4], dtype=np.uint64)

    assert kept_result(tmp_path, find).tolist() == kept_result(tmp_path, find).tolist() == [3, 4]
    assert len(found) == 1
