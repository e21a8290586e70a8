"""Batches of a run: which sequences make step s, and the tokens of this rank's share of them.

`BatchLoader` is iterated by the training loop; `validation_batches` by evaluation. What a step reads is a pure function
of (data, seed, step), so a run that stops and goes on at another world size sees the same global batches; rank r takes
rows r, r + world, ... of each. Threads assemble batches ahead of the loop: what has to be hidden is the wait for a
download, and nothing has to be sent between processes (docs/decisions/loader-threads.md).

Shapes: B = sequences of the global batch, n = sequences of this rank, T = sequence length.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from trainer.data.config import GIB
from trainer.data.marks import ids_of
from trainer.data.mixture import GlobalOrder
from trainer.data.order import Int64, SampleOrder
from trainer.data.split import TokenSplit
from trainer.data.teacher_logits import Entries, LogitsReader, read_entries
from trainer.errors import UserError


@dataclass(frozen=True)
class Batch:
    """One rank's rows of one global batch."""

    step: int
    """Index of the optimizer step, from 0: the number of steps taken before this one."""
    tokens: Int64
    """Rows of this rank [n, T+1], with marks if the sets are packed; n may differ by one between ranks, or be 0."""
    sha256: str
    """Hex sha256 of the ids of the whole global batch: equal on all ranks and at any world size."""
    epoch: float
    """Passes over the data after this step."""
    entries: Entries | None = None
    """What a teacher wrote of these rows [n, T, K], where the loader has it."""


class BatchLoader:
    """Endless iterator over batches from `start_step` on; use it as a context manager or call `close`."""

    def __init__(
        self,
        splits: Sequence[TokenSplit],
        *,
        batch_sequences: int,
        sequence_length: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        weights: Sequence[float] | None = None,
        shuffle_group_bytes: int = GIB,
        workers: int = 1,
        prefetch_batches: int = 4,
        vocab_size: int | None = None,
        logits: Sequence[LogitsReader] | None = None,
    ) -> None:
        """Mix `splits` by `weights` (equal by default); `start_step` is the number of steps already taken.

        At most `prefetch_batches` batches are held; 0 workers read in the calling thread. `vocab_size` is the model's:
        a token id outside of it is a UserError of the step that meets it. `logits`: what a teacher wrote of each.
        """
        assert all(split.sequence_length == sequence_length for split in splits), "splits are opened for this length"
        self._splits = tuple(splits)
        self._batch, self._length = batch_sequences, sequence_length
        self._rank, self._world = rank, world_size
        self._vocab_size = vocab_size
        self._logits = logits
        self._order = _global_order(splits, weights, shuffle_group_bytes, seed)
        self._samples = sum(split.num_samples for split in splits)
        self._next_step = start_step
        self._ready: deque[Future[Batch]] = deque()
        self._prefetch = prefetch_batches
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader") if workers else None
        self._announced: dict[int, tuple[int, ...]] = {}

    def batch_ids(self, step: int) -> Int64:
        """Rows (source, sample) [B, 2] of a step's global batch; pure."""
        return self._order.ids(np.arange(step * self._batch, (step + 1) * self._batch, dtype=np.int64))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """The next step's batch. Raises what its assembly raised, and again when asked again: no step is skipped."""
        if self._pool is None:
            batch = self._load(self._next_step)
            self._next_step += 1
            return batch
        while len(self._ready) < self._prefetch:
            self._submit(self._pool)
        batch = self._ready[0].result()
        self._ready.popleft()
        self._submit(self._pool)
        return batch

    def close(self) -> None:
        """Drop what was read ahead and wait for the threads; the splits stay open."""
        for split in self._splits:
            # Else the interpreter's exit waits until all shards of the next group are downloaded.
            split.prefetch(())
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._ready.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, pool: ThreadPoolExecutor) -> None:
        # Of the oldest batch not yet taken: younger ones may be in the next group while threads still read this one.
        self._announce(self._next_step - len(self._ready))
        self._ready.append(pool.submit(self._load, self._next_step))
        self._next_step += 1

    def _load(self, step: int) -> Batch:
        ids = self.batch_ids(step)
        own = ids[self._rank :: self._world]
        tokens = read_rows(self._splits, own, self._length, self._vocab_size)
        digest = hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()
        entries = read_entries(self._logits, own) if self._logits is not None else None
        return Batch(step, tokens, digest, (step + 1) * self._batch / self._samples, entries)

    def _announce(self, step: int) -> None:
        """Tell remote splits which shards come next."""
        if not any(split.remote for split in self._splits):
            return
        for number, position in enumerate(self._order.mixture.earliest(step * self._batch)):
            ahead = self._order.orders[number].shards_ahead(position)
            if self._announced.get(number) != ahead:
                self._announced[number] = ahead
                self._splits[number].prefetch(ahead)


def validation_batches(
    splits: Sequence[TokenSplit],
    *,
    sequences: int | None,
    rank: int = 0,
    world: int = 1,
    micro: int = 8,
    vocab_size: int | None = None,
) -> Iterator[Int64]:
    """This rank's share of a fixed, evenly spaced choice of `sequences` samples (None: all), as [n, T+1], n <= micro.

    Over all ranks every chosen sample comes exactly once, at any world size. Every rank gets the same number of
    batches, so that collectives match; the last one may have fewer rows, or none.
    """
    counts = np.asarray([split.num_samples for split in splits], dtype=np.int64)
    ends = np.cumsum(counts)
    total = int(ends[-1])
    chosen = total if sequences is None else min(sequences, total)
    # In whole numbers, so that every machine picks the same samples.
    picks = np.arange(chosen, dtype=np.int64) * total // chosen
    source = np.searchsorted(ends, picks, side="right")
    ids = np.stack([source, picks - (ends - counts)[source]], axis=1)
    mine = ids[rank::world]
    most = -(-chosen // world)
    for start in range(0, most, micro):
        yield read_rows(splits, mine[start : start + micro], splits[0].sequence_length, vocab_size)


def read_rows(splits: Sequence[TokenSplit], ids: Int64, sequence_length: int, vocab_size: int | None) -> Int64:
    """Tokens [n, T+1] of rows (source, sample) [n, 2], below their marks where sets are packed.

    Raises UserError for an id that the model has no row for.
    """
    # A new array per batch: the consumer may still be copying the one before to a device.
    tokens = np.empty((len(ids), sequence_length + 1), dtype=np.int64)
    for number, split in enumerate(splits):
        rows = np.flatnonzero(ids[:, 0] == number)
        if len(rows) == len(ids):
            split.read(ids[:, 1], tokens)
        elif len(rows):
            part = np.empty((len(rows), sequence_length + 1), dtype=np.int64)
            split.read(ids[rows, 1], part)
            tokens[rows] = part
    # As unsigned numbers, negative ids are large ones.
    unsigned = (ids_of(tokens) if any(split.packed for split in splits) else tokens).view(np.uint64)
    if vocab_size is not None and tokens.size and int(unsigned.max()) >= vocab_size:
        row = int(np.argmax((unsigned >= vocab_size).any(axis=1)))
        source, sample = (int(value) for value in ids[row])
        found = int(unsigned[row][unsigned[row] >= vocab_size].view(np.int64)[0])
        raise UserError(
            f"{splits[source].name} has token id {found} in sample {sample}",
            expected=f"ids below the model's vocabulary size, {vocab_size}",
            fix="set model.vocab_size to that of the tokenizer that made this data",
        )
    return tokens


def _global_order(
    splits: Sequence[TokenSplit], weights: Sequence[float] | None, group_bytes: int, seed: int
) -> GlobalOrder:
    orders = [
        SampleOrder(
            split.shard_samples,
            split.shard_bytes,
            group_bytes=group_bytes,
            fingerprint=split.fingerprint,
            seed=seed,
        )
        for split in splits
    ]
    identity = "/".join([*(split.fingerprint for split in splits), str(seed)])
    return GlobalOrder(orders, weights or [1.0] * len(splits), identity=identity)
