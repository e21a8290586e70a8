"""Conversations packed into rows of one length, so that few tokens of a batch are padding. Pure.

Best fit, longest first, over windows of conversations: which of them share a row depends on their order alone, memory
holds one window, and what a step reads stays a pure function of the row numbers (docs/decisions/adapting.md).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from trainer.data.chat import Encoded
from trainer.data.marks import CONTEXT, FIRST

# Conversations that are packed together: enough to find a mate for nearly all, and some ten megabytes of tokens.
WINDOW = 10_000


def pack(samples: Iterable[Encoded], *, row_tokens: int, padding: int) -> Iterator[Encoded]:
    """Rows of `row_tokens` tokens, each of whole samples and then of the token `padding`, which never counts.

    No sample may be longer than a row.
    """
    window: list[Encoded] = []
    for sample in samples:
        window.append(sample)
        if len(window) == WINDOW:
            yield from _rows(window, row_tokens, padding)
            window = []
    yield from _rows(window, row_tokens, padding)


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of places in `lengths`, each of at most `capacity` in all: longest first, each where least room is left.

    At most 11/9 of the fewest rows possible, and 6/9 of a row (Dosa 2007, for first fit; best fit is no worse).
    """
    rows: list[list[int]] = []
    # (room left, row), by room.
    open_rows: list[tuple[int, int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        length = lengths[place]
        found = bisect.bisect_left(open_rows, (length, -1))
        if found == len(open_rows):
            room, row = capacity, len(rows)
            rows.append([])
        else:
            room, row = open_rows.pop(found)
        rows[row].append(place)
        bisect.insort(open_rows, (room - length, row))
    return rows


def _rows(window: Sequence[Encoded], row_tokens: int, padding: int) -> Iterator[Encoded]:
    for places in best_fit([len(sample.tokens) for sample in window], row_tokens):
        tokens = np.full(row_tokens, padding, dtype=np.int64)
        marks = np.full(row_tokens, CONTEXT, dtype=np.uint8)
        start = 0
        for place in sorted(places):
            end = start + len(window[place].tokens)
            tokens[start:end], marks[start:end] = window[place]
            start = end
        if start < row_tokens:
            marks[start] |= FIRST
        yield Encoded(tokens, marks)
