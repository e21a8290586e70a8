"""Which bytes of a file are there: sorted, disjoint [start, stop) ranges. Pure; `partial` keeps one list per file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

Range = tuple[int, int]


def add(covered: Sequence[Range], start: int, stop: int) -> tuple[Range, ...]:
    """`covered` with [start, stop), ranges that touch joined."""
    if start >= stop:
        return tuple(covered)
    before = [piece for piece in covered if piece[1] < start]
    after = [piece for piece in covered if piece[0] > stop]
    touching = covered[len(before) : len(covered) - len(after)]
    if touching:
        start, stop = min(start, touching[0][0]), max(stop, touching[-1][1])
    return (*before, (start, stop), *after)


def missing(covered: Sequence[Range], num_bytes: int, piece_bytes: int) -> Iterator[Range]:
    """What is not covered of [0, num_bytes), in order, cut into pieces of at most `piece_bytes`."""
    position = 0
    for start, stop in (*covered, (num_bytes, num_bytes)):
        while position < min(start, num_bytes):
            end = min(position + piece_bytes, start, num_bytes)
            yield position, end
            position = end
        position = max(position, stop)


def total(covered: Sequence[Range]) -> int:
    """Bytes that are there."""
    return sum(stop - start for start, stop in covered)


def are_valid(covered: Sequence[Range], num_bytes: int | None) -> bool:
    """Whether a list read from a file is sorted, disjoint and inside [0, num_bytes)."""
    edges = [edge for piece in covered for edge in piece]
    rising = all(low < high for low, high in pairwise(edges))
    return rising and all(edge >= 0 for edge in edges) and (num_bytes is None or not edges or edges[-1] <= num_bytes)
