"""What each token of a packed row is for, in the bits of a row above the token's id.

A packed row holds several conversations, and only some of its tokens count in the loss. Shards say so in the column
`marks` [uint8]; on the way from a shard to the model a mark lies above the id it belongs to, so that the loader, the
step and evaluation carry one array for every kind of set. Rows of plain sets have no marks: all their tokens count.
The functions take NumPy arrays as well as tensors.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from trainer.data.order import Int64

CONTEXT = 1
"""The token is there to be read: predicting it does not count in the loss."""
FIRST = 2
"""The token begins a sample, which sees nothing before it."""

# Ids are stored in 32 bits at most.
_SHIFT = 32

Rows = TypeVar("Rows")


def with_marks(tokens: Any, marks: Any) -> Int64:
    """Ids and their marks as one array of int64."""
    return tokens.astype(np.int64) | marks.astype(np.int64) << _SHIFT  # type: ignore[no-any-return]


def ids_of(rows: Rows) -> Rows:
    """The token ids of rows."""
    return rows & (1 << _SHIFT) - 1  # type: ignore[operator,no-any-return]


def marks_of(rows: Rows) -> Rows:
    """The marks of rows, 0 where there are none."""
    return rows >> _SHIFT  # type: ignore[operator,no-any-return]
