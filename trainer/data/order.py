"""The order of samples within one source: pure, seekable, the same on any number of ranks.

`SampleOrder` maps a position in an endless walk over the data (epoch after epoch) to a sample. Shards are permuted per
epoch; windows are permuted within groups of consecutive permuted shards, so that a remote cache holds what is read (a
permutation of all windows would fetch every shard for every batch). `trainer.data.mixture` puts sources together.
No state, clock or library random stream is involved: a resumed run asks for the position it needs, and a newer NumPy
cannot change the order. Golden values in the tests pin it.

Shapes: n = positions asked for, S = shards, G = groups of an epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

FEISTEL_ROUNDS = 8


class SampleOrder:
    """Endless, seekable order over the samples of one source; every epoch is an exact permutation."""

    def __init__(
        self,
        shard_samples: Sequence[int] | Int64,
        shard_bytes: Sequence[int] | Int64,
        *,
        group_bytes: int,
        fingerprint: str,
        seed: int,
    ) -> None:
        """Take the samples that start in each shard, each shard's size, and the size of a shuffle group in bytes.

        A group takes shards until it reaches `group_bytes`, so it is larger than that by less than one shard.
        """
        self._shard_samples = np.asarray(shard_samples, dtype=np.int64)
        self._shard_bytes = np.asarray(shard_bytes, dtype=np.int64)
        self._first_sample = np.cumsum(self._shard_samples) - self._shard_samples
        self._group_bytes = group_bytes
        self._identity = f"{fingerprint}/{seed}"
        self.num_samples = int(self._shard_samples.sum())
        assert self.num_samples > 0, "an order needs at least one sample"
        # A batch touches two epochs at most, and read-ahead one more.
        self._plan = lru_cache(maxsize=4)(self._make_plan)

    def sample_ids(self, positions: Int64) -> Int64:
        """Sample ids [n] at global positions [n], where position = epoch * num_samples + offset."""
        positions = np.asarray(positions, dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.num_samples)
        out = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            out[here] = self._within_epoch(int(epoch), offsets[here])
        return out

    def shards_ahead(self, position: int) -> tuple[int, ...]:
        """Shards of the group at `position` and of the next one, in the order in which they come into use."""
        epoch, offset = divmod(position, self.num_samples)
        plan = self._plan(epoch)
        group = int(np.searchsorted(plan.group_end, offset, side="right"))
        shards = plan.shards_of(group)
        next_is_here = group + 1 < len(plan.group_end)
        after = plan.shards_of(group + 1) if next_is_here else self._plan(epoch + 1).shards_of(0)
        return tuple(dict.fromkeys((*shards, *after)))

    def _within_epoch(self, epoch: int, offsets: Int64) -> Int64:
        plan = self._plan(epoch)
        group = np.searchsorted(plan.group_end, offsets, side="right")
        start = plan.group_start[group]
        shuffled = start + permute(offsets - start, plan.group_end[group] - start, plan.group_key[group])
        place = np.searchsorted(plan.shard_end, shuffled, side="right")
        return plan.shard_shift[place] + shuffled

    def _make_plan(self, epoch: int) -> _EpochPlan:
        """Lay the shards of an epoch out in their order and cut them into groups; O(S), once per epoch."""
        key = keyed(self._identity, epoch)
        num_shards = len(self._shard_samples)
        # `mix` is a bijection: no two keys are equal, so any way of sorting gives this one order.
        shards = np.argsort(mix(np.arange(num_shards, dtype=np.uint64) ^ np.uint64(key)))
        samples, sizes = self._shard_samples[shards], self._shard_bytes[shards]
        group_of = (np.cumsum(sizes) - sizes) // self._group_bytes
        first_of_group = np.flatnonzero(np.diff(group_of, prepend=-1))
        shard_end = np.cumsum(samples)
        group_end = shard_end[np.append(first_of_group[1:] - 1, num_shards - 1)]
        return _EpochPlan(
            shards=shards,
            shard_end=shard_end,
            shard_shift=self._first_sample[shards] - (shard_end - samples),
            group_first=np.append(first_of_group, num_shards),
            group_start=np.append(0, group_end[:-1]),
            group_end=group_end,
            group_key=mix(np.arange(len(group_end), dtype=np.uint64) + np.uint64(key)),
        )


@dataclass(frozen=True)
class _EpochPlan:
    """One epoch's layout: [S] arrays are in the epoch's shard order, [G] arrays in the order of groups."""

    shards: Int64
    shard_end: Int64
    shard_shift: Int64
    group_first: Int64
    group_start: Int64
    group_end: Int64
    group_key: UInt64

    def shards_of(self, group: int) -> tuple[int, ...]:
        return tuple(self.shards[self.group_first[group] : self.group_first[group + 1]].tolist())


def permute(values: Int64, sizes: Int64, keys: UInt64) -> Int64:
    """Send each value in [0, size) through the bijection of [0, size) that its key names; all arguments are [n].

    A generalised Feistel network on Z_a x Z_b with a * b just above `size`, and cycle walking for what falls outside:
    Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (2002), methods 2 and 3.
    """
    size = np.asarray(sizes, dtype=np.uint64)
    a = np.ceil(np.sqrt(size.astype(np.float64))).astype(np.uint64)
    b = (size + a - np.uint64(1)) // a
    out = np.asarray(values, dtype=np.uint64).copy()
    walking = np.arange(len(out))
    while len(walking):
        stepped = _feistel(out[walking], a[walking], b[walking], keys[walking])
        out[walking] = stepped
        walking = walking[stepped >= size[walking]]
    return out.astype(np.int64)


def _feistel(value: UInt64, a: UInt64, b: UInt64, key: UInt64) -> UInt64:
    left, right = value % a, value // a
    for number in range(0, FEISTEL_ROUNDS, 2):
        left = (left + mix(right + mix(key + np.uint64(number))) % a) % a
        right = (right + mix(left + mix(key + np.uint64(number + 1))) % b) % b
    return right * a + left


def mix(value: UInt64) -> UInt64:
    """SplitMix64's output function (Steele, Lea, Flood 2014): 64 well-mixed bits of each element."""
    z = value + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def keyed(identity: str, number: int) -> int:
    """A 64-bit key from a name and a number."""
    return int.from_bytes(hashlib.sha256(f"{identity}/{number}".encode()).digest()[:8], "little")
