"""The first stage: parts of sources become files of cleaned text, with what the later stages need to know of each text.

A file holds the documents of one part that the steps kept, in order: their text, and a number that its content picks
(for the split and the tokenizer's sample). Digests and band keys for the search for duplicates go beside it, and last
what was seen and dropped, which marks the part as finished. Every file gets its name when it is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainer.data.batches import batches
from trainer.data.clean.base import Drop
from trainer.data.clean.exact import DigestWriter, digests
from trainer.data.clean.near import BandWriter, band_keys, signatures
from trainer.data.clean.runs import Words
from trainer.data.clean.steps import AnyStep, clean
from trainer.data.prepare.pipeline import Duplicates
from trainer.data.sources import Part, Source
from trainer.durable import durable_rename, write_atomically

EXACT, NEAR = "exact", "near"
# Text that is held at once, by one worker.
BATCH_BYTES = 4_000_000
# A document's number is part << PART_SHIFT | place in the part.
PART_SHIFT = 32
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")
_SCHEMA = pa.schema([("text", pa.large_string()), ("pick", pa.uint64())])


@dataclass
class Counts:
    """What became of the documents of a part, or of all of them."""

    seen: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    """Documents without text, by their problem."""
    drops: Counter[str] = field(default_factory=Counter)
    """Documents that a step dropped, by its rule."""
    kept: int = 0
    text_bytes: int = 0

    def add(self, other: Counts) -> None:
        """Count another part's documents too."""
        self.seen += other.seen
        self.problems += other.problems
        self.drops += other.drops
        self.kept += other.kept
        self.text_bytes += other.text_bytes


class CleanTask(NamedTuple):
    """One part to clean."""

    folder: Path
    number: int
    """Place among the parts of all sources."""
    source: Source
    part: Part
    steps: tuple[AnyStep, ...]
    duplicates: Duplicates
    seed: int


def clean_part(task: CleanTask) -> Counts:
    """Write the files of one part, unless they are there."""
    finished = _counts_file(task.folder, task.number)
    if finished.exists():
        return _read_counts(finished)
    counts = Counts()
    path = text_file(task.folder, task.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with ExitStack() as stack:
        exact = stack.enter_context(DigestWriter(task.folder / EXACT, task.number)) if task.duplicates.exact else None
        settings = task.duplicates.near
        near = stack.enter_context(BandWriter(task.folder / NEAR, task.number)) if settings is not None else None
        writer = stack.enter_context(pa.ipc.new_file(str(temporary), _SCHEMA, options=_COMPRESSED))
        for texts in batches(_kept_texts(task, counts), BATCH_BYTES):
            places = np.arange(counts.kept, counts.kept + len(texts), dtype=np.uint64)
            numbers = first_number(task.number) + places
            if exact is not None:
                exact.add(digests(texts), numbers)
            if near is not None and settings is not None:
                near.add(band_keys(signatures(texts, settings), settings), numbers)
            counts.kept += len(texts)
            writer.write_batch(_batch(texts, task.seed))
    durable_rename(temporary, path)
    write_atomically(finished, json.dumps(vars(counts)).encode())
    return counts


def text_file(folder: Path, number: int) -> Path:
    """Where the cleaned text of a part lies."""
    return folder / "text" / f"{number:08d}.arrow"


def first_number(part: int) -> np.uint64:
    """The number of a part's first document among all; those of the others follow."""
    return np.uint64(part) << np.uint64(PART_SHIFT)


def read_picks(path: Path) -> Words:
    """The number of each document of a file, in [0, 2**64), picked by its content."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=[1]))
        found = [reader.get_batch(i).column(0).to_numpy() for i in range(reader.num_record_batches)]
    return np.concatenate([np.empty(0, dtype=np.uint64), *found])


def read_texts(path: Path, wanted: npt.NDArray[np.bool_]) -> Iterator[list[str]]:
    """The wanted documents of a file, a batch at a time."""
    start = 0
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=[0]))
        for i in range(reader.num_record_batches):
            column = reader.get_batch(i).column(0)
            mask = wanted[start : start + len(column)]
            start += len(column)
            if mask.any():
                # Not through numpy objects: pyarrow would import pandas for these.
                yield (column if mask.all() else column.filter(pa.array(mask))).to_pylist()


def _counts_file(folder: Path, number: int) -> Path:
    return folder / "text" / f"{number:08d}.json"


def _read_counts(path: Path) -> Counts:
    raw = json.loads(path.read_bytes())
    return Counts(**{**raw, "problems": Counter(raw["problems"]), "drops": Counter(raw["drops"])})


def _kept_texts(task: CleanTask, counts: Counts) -> Iterator[str]:
    for document in task.source.read(task.part):
        counts.seen += 1
        if document.text is None:
            counts.problems[document.problem or "malformed"] += 1
            continue
        verdict = clean(document.text, task.steps)
        if isinstance(verdict, Drop):
            counts.drops[verdict.rule] += 1
            continue
        try:
            counts.text_bytes += len(verdict.encode())
        except UnicodeEncodeError:  # JSON can carry halves of surrogate pairs
            counts.problems["utf-8"] += 1
            continue
        yield verdict


def _batch(texts: Sequence[str], seed: int) -> Any:
    hashes = (hashlib.sha256(f"{seed}\n{text}".encode()).digest()[16:24] for text in texts)
    picks = np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)
    return pa.record_batch([pa.array(texts, pa.large_string()), pa.array(picks)], schema=_SCHEMA)
