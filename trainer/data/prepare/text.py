"""The cleaned text of all parts without its repetitions, and an even sample of it for the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trainer.data.clean.runs import Words
from trainer.data.prepare.cleaned import PART_SHIFT, first_number, read_picks, read_texts, text_file
from trainer.data.prepare.engine import Engine
from trainer.data.progress import Advance


@dataclass(frozen=True)
class Text:
    """What the cleaning of all parts left."""

    folder: Path
    parts: int
    kept: int
    """Documents that no step dropped."""
    num_bytes: int
    """Of these, UTF-8."""
    exact: Words
    """Sorted numbers of those whose text an earlier one has."""
    near: Words
    """Sorted numbers of the others that are nearly an earlier one."""

    @property
    def documents(self) -> int:
        """Documents that are used."""
        return self.kept - len(self.exact) - len(self.near)

    @cached_property
    def duplicates(self) -> Words:
        """Sorted numbers of documents that are not used."""
        return np.union1d(self.exact, self.near)

    def part(self, number: int) -> tuple[Path, Words, npt.NDArray[np.bool_]]:
        """A part's file, the number that each document's content picks, and which documents are used."""
        path = text_file(self.folder, number)
        picks = read_picks(path)
        start, end = np.searchsorted(self.duplicates, [first_number(number), first_number(number + 1)])
        used = np.ones(len(picks), dtype=np.bool_)
        used[(self.duplicates[start:end] & np.uint64((1 << PART_SHIFT) - 1)).astype(np.intp)] = False
        return path, picks, used

    def sample(self, num_bytes: int, engine: Engine, advance: Advance) -> list[str]:
        """About so many bytes of the documents, picked by their content; all of them where they are fewer."""
        share = min(1.0, num_bytes / max(self.num_bytes, 1))
        found: list[str] = []
        for texts in engine.map(read_sample, self._sample_tasks(share)):
            found += texts
            advance(sum(map(len, texts)))
        return found

    def _sample_tasks(self, share: float) -> Iterator[SampleTask]:
        for number in range(self.parts):
            path, picks, used = self.part(number)
            # The low bits pick the sample, the whole number the validation split: the two must not be correlated.
            yield SampleTask(path, used & ((picks & np.uint64(0xFFFFFFFF)) < share * (1 << 32)))


class SampleTask(NamedTuple):
    """A part to take documents from."""

    path: Path
    wanted: npt.NDArray[np.bool_]


def read_sample(task: SampleTask) -> list[str]:
    """The wanted documents of a part."""
    return [text for texts in read_texts(task.path, task.wanted) for text in texts]
