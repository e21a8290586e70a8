"""Items gathered up to a size: NumPy, Arrow and tokenizers get many at a time. Used by cleaning and preparation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item", bound=Sized)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists, each of which ends with the item that brings its total length to `size` or more."""
    batch: list[Item] = []
    length = 0
    for item in items:
        batch.append(item)
        length += len(item)
        if length >= size:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch
