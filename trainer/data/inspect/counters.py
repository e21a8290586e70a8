"""What is counted while the tokens of a split pass by, each in memory that does not grow with their number.

Pure; fed by `trainer.data.inspect.scan`. Distinct lengths of documents are few: n of them take n * (n - 1) / 2 tokens.
Distinct contents are as many as documents, so above a limit only those whose hash ends in zero bits are kept. As that
is a matter of the content, all copies of a document are kept or none, and the share of repeats stays a fair estimate.
"""

from __future__ import annotations

import hashlib
import heapq
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trainer.data.shards import Tokens

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

# Counted at once: np.bincount makes 64-bit copies, which stay in the processor's cache at this size.
_BLOCK_TOKENS = 1 << 18
_PENDING_ROWS = 1 << 20
_CONTENT = np.dtype([("digest", "<u8"), ("shard", "<u4"), ("start", "<u8"), ("length", "<u4"), ("count", "<u4")])


class IdCounts:
    """How often each id occurs."""

    def __init__(self) -> None:
        self.counts: Int64 = np.zeros(0, dtype=np.int64)

    def add(self, tokens: Tokens) -> None:
        """Count tokens, none of them negative."""
        for start in range(0, len(tokens), _BLOCK_TOKENS):
            found = np.bincount(tokens[start : start + _BLOCK_TOKENS].astype(np.int64, copy=False))
            if len(found) > len(self.counts):
                self.counts = np.concatenate([self.counts, np.zeros(len(found) - len(self.counts), dtype=np.int64)])
            self.counts[: len(found)] += found


class LengthCounts:
    """How many documents have each length."""

    def __init__(self) -> None:
        self.lengths: Int64 = np.zeros(0, dtype=np.int64)
        """The lengths that occur, ascending."""
        self.counts: Int64 = np.zeros(0, dtype=np.int64)

    def add(self, lengths: Int64) -> None:
        """Count documents by their length."""
        every = np.concatenate([self.lengths, lengths])
        weights = np.concatenate([self.counts, np.ones(len(lengths), dtype=np.int64)])
        self.lengths, places = np.unique(every, return_inverse=True)
        # Not bincount: its weights are floats.
        self.counts = np.zeros(len(self.lengths), dtype=np.int64)
        np.add.at(self.counts, places, weights)


class Place(NamedTuple):
    """Where a document was first seen."""

    shard: int
    start: int
    length: int


class Contents:
    """Which documents are equal, by 64 bits of their hash; two of a million different ones agree with odds of 1e-8."""

    def __init__(self, limit: int = 1 << 21) -> None:
        """`limit`: most distinct contents to keep; 28 bytes each, and as much again while they are sorted."""
        self._limit = limit
        self._rows = np.zeros(0, dtype=_CONTENT)
        self._pending: list[npt.NDArray[np.void]] = []
        self._pending_rows = 0
        self.one_in = 1
        """One in so many contents is kept, picked by its hash."""

    def add(self, digests: UInt64, shard: int, starts: Int64, lengths: Int64) -> None:
        """Add documents of one shard: their digests, where they start and how many tokens they have."""
        rows = np.zeros(len(digests), dtype=_CONTENT)
        rows["digest"], rows["shard"], rows["start"] = digests, shard, starts
        rows["length"], rows["count"] = lengths, 1
        self._pending.append(self._kept(rows))
        self._pending_rows += len(self._pending[-1])
        if self._pending_rows >= _PENDING_ROWS:
            self._merge()

    @property
    def documents(self) -> int:
        """Documents with a kept content."""
        return int(self._merged["count"].sum())

    @property
    def distinct(self) -> int:
        """Contents that are kept."""
        return len(self._merged)

    def most_repeated(self, number: int) -> list[tuple[int, Place]]:
        """(times, first place) of the contents that occur most often, twice at least."""
        rows = self._merged[self._merged["count"] > 1]
        # Of those that are equally frequent, the first in the set.
        order = np.lexsort((rows["start"], rows["shard"], -rows["count"].astype(np.int64)))[:number]
        return [
            (int(row["count"]), Place(int(row["shard"]), int(row["start"]), int(row["length"]))) for row in rows[order]
        ]

    def found_in(self, other: Contents) -> tuple[int, int]:
        """(documents of this split that were looked up, those whose content the other one has)."""
        # Both halve the same way, so the one with fewer contents says which can be compared.
        self_rows, other_rows = (
            rows[rows["digest"] % max(self.one_in, other.one_in) == 0] for rows in (self._merged, other._merged)
        )
        there = np.isin(self_rows["digest"], other_rows["digest"])
        return int(self_rows["count"].sum()), int(self_rows["count"][there].sum())

    @property
    def _merged(self) -> npt.NDArray[np.void]:
        if self._pending:
            self._merge()
        return self._rows

    def _merge(self) -> None:
        # Stable, so that of equal contents the first place stays.
        rows = np.concatenate([self._rows, *self._pending])
        self._pending, self._pending_rows = [], 0
        rows = rows[np.argsort(rows["digest"], kind="stable")]
        if not len(rows):
            return
        is_first = np.append(True, rows["digest"][1:] != rows["digest"][:-1])
        counts = np.add.reduceat(rows["count"], np.flatnonzero(is_first))
        rows = rows[is_first]
        rows["count"] = counts
        while len(rows) > self._limit:
            self.one_in *= 2
            rows = self._kept(rows)
        self._rows = rows

    def _kept(self, rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        return rows if self.one_in == 1 else rows[rows["digest"] % self.one_in == 0]


class Excerpt(NamedTuple):
    """The beginning of a document or stretch of tokens, with what is needed to name it."""

    shard: int
    document: int | None
    start: int
    length: int
    ids: tuple[int, ...]


class Samples:
    """The few contents with the lowest hashes: a random pick, the same one whatever the order of the documents."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._heap: list[tuple[int, Excerpt]] = []

    def candidates(self, digests: UInt64) -> list[int]:
        """Places in `digests` [n] of those low enough to be offered."""
        _, places = np.unique(digests, return_index=True)
        full = len(self._heap) == self._number
        return [int(place) for place in places[: self._number] if not full or int(digests[place]) < -self._heap[0][0]]

    def offer(self, digest: int, excerpt: Excerpt) -> None:
        """Take a document, if it is among the lowest; each content once."""
        if any(-kept == digest for kept, _ in self._heap):
            return
        heapq.heappush(self._heap, (-digest, excerpt))
        if len(self._heap) > self._number:
            heapq.heappop(self._heap)

    def picked(self) -> list[Excerpt]:
        """In the order of the set."""
        return sorted((excerpt for _, excerpt in self._heap), key=lambda excerpt: (excerpt.shard, excerpt.start))


def digests_of(tokens: Tokens, bounds: Int64) -> UInt64:
    """64 bits of the BLAKE2b of each document [n]; `bounds` [n + 1] is where they begin and the last one ends."""
    width = tokens.dtype.itemsize
    data = np.ascontiguousarray(tokens).view(np.uint8).data
    ends = (bounds * width).tolist()
    joined = b"".join(hashlib.blake2b(data[begin:end], digest_size=8).digest() for begin, end in pairwise(ends))
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)
