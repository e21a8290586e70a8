"""Weighted mixture of several sources: pure and seekable, like the order within a source.

The global walk over sequences is cut into blocks; in each block every source has its share (rounded up or down), and a
keyed permutation orders the block. Shares repeat after a period of blocks, in which they are exact, so nothing has to
be carried from step to step. `GlobalOrder` is what the loader asks: position -> (source, sample).

Shapes: n = positions asked for, K = sources, P = blocks of a period.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.data.order import Int64, SampleOrder, keyed, permute
from trainer.errors import UserError

BLOCK_SEQUENCES = 1024
PERIOD_BLOCKS = 1024
PERIOD_SEQUENCES = BLOCK_SEQUENCES * PERIOD_BLOCKS


class GlobalOrder:
    """The order of a run's sequences over all its sources."""

    def __init__(self, orders: Sequence[SampleOrder], weights: Sequence[float], *, identity: str) -> None:
        """`identity` names the data and the seed: another one gives another order."""
        self.orders = tuple(orders)
        self.mixture = Mixture(weights, identity=identity)

    def ids(self, positions: Int64) -> Int64:
        """Rows (source, sample) [n, 2] at global positions [n]."""
        source, within = self.mixture.assign(positions)
        out = np.empty((len(positions), 2), dtype=np.int64)
        out[:, 0] = source
        for number, order in enumerate(self.orders):
            mine = source == number
            out[mine, 1] = order.sample_ids(within[mine])
        return out


class Mixture:
    """Which source gives the sequence at a position, and which of its sequences that is."""

    def __init__(self, weights: Sequence[float], *, identity: str) -> None:
        self._identity = f"mixture/{identity}"
        self._period_counts = _largest_remainder(weights, PERIOD_SEQUENCES)
        counts = _block_counts(self._period_counts)
        self._before_block = np.cumsum(counts, axis=0) - counts
        self._end_in_block = np.cumsum(counts, axis=1)
        self._start_in_block = self._end_in_block - counts

    def assign(self, positions: Int64) -> tuple[Int64, Int64]:
        """Source [n] and position within that source's own walk [n], for global positions [n]."""
        positions = np.asarray(positions, dtype=np.int64)
        if len(self._period_counts) == 1:
            return np.zeros_like(positions), positions
        number, offset = np.divmod(positions, BLOCK_SEQUENCES)
        blocks, index = np.unique(number, return_inverse=True)
        keys = np.array([keyed(self._identity, int(block)) for block in blocks], dtype=np.uint64)
        slot = permute(offset, np.full_like(offset, BLOCK_SEQUENCES), keys[index])
        period, row = np.divmod(number, PERIOD_BLOCKS)
        source = (slot[:, None] >= self._end_in_block[row]).sum(axis=1)
        within = slot - self._start_in_block[row, source] + self._before_block[row, source]
        return source, within + period * self._period_counts[source]

    def earliest(self, position: int) -> list[int]:
        """For each source [K] the lowest position in its own walk that comes at a global position or after it.

        It never falls as the position rises, which a block's own order does.
        """
        if len(self._period_counts) == 1:
            return [position]
        period, row = divmod(position // BLOCK_SEQUENCES, PERIOD_BLOCKS)
        lowest: list[int] = (self._before_block[row] + period * self._period_counts).tolist()
        return lowest


def _largest_remainder(weights: Sequence[float], total: int) -> Int64:
    """Integers [K] that sum to `total` and are nearest to the weights' shares of it."""
    share = np.asarray(weights, dtype=np.float64)
    share = share / share.sum() * total
    counts: Int64 = np.floor(share).astype(np.int64)
    order = np.argsort(-(share - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    if (counts == 0).any():
        poor = int(np.argmin(counts))
        raise UserError(
            f"data.train[{poor}].weight is {weights[poor]:g} of {sum(weights):g} in all",
            expected=f"at least one of {total} sequences for every source",
            fix="raise that weight or leave the source out",
        )
    return counts


def _block_counts(period_counts: Int64) -> Int64:
    """Sequences of each source in each block of a period [P, K]; columns sum to the period's counts exactly.

    Every block gives a source the whole part of its share. The slots left over are dealt by systematic sampling: the
    fractions are laid end to end and read at distance one, from another offset in each block. Offsets are visited in
    bit-reversed order, so that a source's count also stays close to its share in between.
    """
    whole, rest = np.divmod(period_counts, PERIOD_BLOCKS)
    offsets = np.zeros(1, dtype=np.int64)
    while len(offsets) < PERIOD_BLOCKS:
        # The bit-reversed order of twice as many: the even numbers in this order, then the odd ones.
        offsets = np.concatenate([2 * offsets, 2 * offsets + 1])
    edges = np.append(0, np.cumsum(rest))
    reached = -((offsets[:, None] - edges[None, :]) // PERIOD_BLOCKS)
    extra: Int64 = np.diff(reached, axis=1) + whole
    return extra
