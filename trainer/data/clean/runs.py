"""Documents with equal keys, found in bounded memory: sorted runs on disk, then one range of keys after another.

The machinery of `exact` and `near`. A record is a key of one or two 64-bit words and a document's number, stored as a
column of a uint64 array [words + 1, records]; keys are hashes, so they fill their space evenly. A writer sorts what
fits its buffer into a run. Of the records with equal keys only the earliest document's goes into the run, and
each other document becomes a link to it, so one key is at most once in a run however often a text occurs.
`find_links` then takes the records of one range of keys from all runs, and links again.

    parts/00000012/000.npy        a run, sorted by key; a part's folder gets its name when all of it is written
    parts/00000012/000-links.npy  links [2, m] found in it: a later document, the earliest with the same key
    links/000003-of-000016.npy    links found between runs in one range of keys
    duplicates.npy                the result

Every file gets its name when it is whole; after a kill, what has its name is used again.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trainer.durable import durable_rename, replacing

Words = npt.NDArray[np.uint64]
Mapper = Callable[[Callable[[Any], None], Iterable[Any]], Iterable[None]]

# Records a writer holds, in bytes; while it sorts them it needs about four times as much.
BUFFER_BYTES = 8 << 20
# What finding the links of one range of keys may take.
LINK_MEMORY_BYTES = 16 << 20


class RunWriter:
    """Writes the runs of one part of the input. Use it as a context manager; leaving it without error ends the part."""

    def __init__(self, folder: Path, part: int, *, words: int, buffer_bytes: int = BUFFER_BYTES) -> None:
        """`words` is the number of 64-bit words of a key. A part that was finished before is replaced."""
        self._final = _parts(folder) / f"{part:08d}"
        self._words = words
        self._buffer_records = max(1, buffer_bytes // (8 * (words + 1)))
        self._pending: list[Words] = []
        self._pending_records = 0
        self._runs = 0

    def add(self, records: Words) -> None:
        """Add records [words + 1, n]: the words of their keys, and their documents' numbers."""
        self._pending.append(records)
        self._pending_records += records.shape[1]
        if self._pending_records >= self._buffer_records:
            self._write_run()

    def __enter__(self) -> Self:
        self._final.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = Path(tempfile.mkdtemp(dir=self._final.parent, prefix=f".{self._final.name}."))
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        self._write_run()
        if self._final.exists():
            shutil.rmtree(self._final)
        durable_rename(self._temporary, self._final)

    def _write_run(self) -> None:
        if not self._pending_records:
            return
        records = np.concatenate(self._pending, axis=1)
        self._pending, self._pending_records = [], 0
        _sort(records)
        starts = _starts(records)
        links = _links(records[-1], starts)
        firsts = np.vstack([records[:-1, starts], np.minimum.reduceat(records[-1], starts)])
        _save(self._temporary / f"{self._runs:03d}.npy", firsts)
        if links.shape[1]:
            _save(self._temporary / f"{self._runs:03d}-links.npy", links)
        self._runs += 1


def find_links(folder: Path, *, words: int, memory_bytes: int, run: Mapper) -> list[Path]:
    """Files of links [2, m], (later document, earlier document), that connect all documents with equal keys.

    Needs all parts finished. The ranges of keys are independent tasks for `run`.
    """
    for leftover in _parts(folder).glob(".*"):
        shutil.rmtree(leftover)
    records = sum(np.load(path, mmap_mode="r").shape[1] for path in _runs(folder))
    # While they are sorted: the records, their order, and one of their columns.
    ranges = max(1, math.ceil(records * 8 * (words + 3) / memory_bytes))
    tasks = [_Range(folder, number, ranges, words) for number in range(ranges)]
    found = folder / "links"
    found.mkdir(parents=True, exist_ok=True)
    for path in set(found.iterdir()) - {task.path for task in tasks}:
        path.unlink()
    for _ in run(_link_range, [task for task in tasks if not task.path.exists()]):
        pass
    return [*sorted(_parts(folder).glob("*/*-links.npy")), *(task.path for task in tasks)]


def kept_result(folder: Path, find: Callable[[], Words]) -> Words:
    """The result that an earlier call left in `folder`, or else that of `find`, which is kept there."""
    path = folder / "duplicates.npy"
    if not path.exists():
        _save(path, find())
    result: Words = np.load(path)
    return result


@dataclass(frozen=True)
class _Range:
    """One of `ranges` equal parts of the space of keys' first words."""

    folder: Path
    number: int
    ranges: int
    words: int

    @property
    def path(self) -> Path:
        """Where its links go."""
        return self.folder / "links" / f"{self.number:06d}-of-{self.ranges:06d}.npy"

    def records(self) -> Words:
        """Its records of all runs."""
        start = np.uint64((self.number << 64) // self.ranges)
        last = np.uint64(((self.number + 1 << 64) // self.ranges) - 1)
        pieces = []
        for path in _runs(self.folder):
            run = np.load(path, mmap_mode="r")
            pieces.append((path, int(np.searchsorted(run[0], start)), int(np.searchsorted(run[0], last, side="right"))))
        records = np.empty((self.words + 1, sum(end - begin for _, begin, end in pieces)), dtype=np.uint64)
        filled = 0
        for path, begin, end in pieces:
            records[:, filled : filled + end - begin] = np.load(path, mmap_mode="r")[:, begin:end]
            filled += end - begin
        return records


def _link_range(task: _Range) -> None:
    records = task.records()
    _sort(records)
    _save(task.path, _links(records[-1], _starts(records)))


def _sort(records: Words) -> None:
    """Sort records by key, in place; those with equal keys in any order."""
    keys = records[:-1]
    order = np.argsort(keys[0]) if len(keys) == 1 else np.lexsort(keys[::-1])
    # Not one index for all rows: that takes twice as long, and twice the memory.
    for row in records:
        row[:] = row[order]


def _starts(records: Words) -> npt.NDArray[np.intp]:
    """Where groups of equal keys begin in sorted records."""
    is_new = np.ones(records.shape[1], dtype=np.bool_)
    is_new[1:] = False
    for row in records[:-1]:
        is_new[1:] |= row[1:] != row[:-1]
    return np.flatnonzero(is_new)


def _links(documents: Words, starts: npt.NDArray[np.intp]) -> Words:
    """Links from the documents of each group to its earliest."""
    is_first = np.zeros(len(documents), dtype=np.bool_)
    is_first[starts] = True
    # Most groups have one document only: those end here, so that what follows takes little memory.
    has_others = ~is_first
    has_others[:-1] |= has_others[1:]
    documents, starts = documents[has_others], np.flatnonzero(is_first[has_others])
    if not len(starts):
        return np.empty((2, 0), dtype=np.uint64)
    earliest = np.repeat(np.minimum.reduceat(documents, starts), np.diff(starts, append=len(documents)))
    later = documents != earliest
    return np.stack([documents[later], earliest[later]])


def _parts(folder: Path) -> Path:
    return folder / "parts"


def _runs(folder: Path) -> list[Path]:
    return sorted(_parts(folder).glob("*/[0-9]*[0-9].npy"))


def _save(path: Path, array: Words) -> None:
    """Write a .npy file that is either absent or whole, also after a power cut."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)
