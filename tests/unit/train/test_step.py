"""How a rank's share of a batch becomes micro-batches, and what ranks tell each other beside the loss."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.train.step import Flags, micro_batches


@given(sequences=st.integers(1, 64), world=st.integers(1, 16), micro=st.integers(1, 16))
def test_every_sequence_counts_once_and_collectives_match(sequences: int, world: int, micro: int) -> None:
    world = min(world, sequences)
    batch = np.arange(sequences)[:, None]
    most = -(-sequences // world)
    counts, seen = set(), []
    for rank in range(world):
        parts = list(micro_batches(batch[rank::world], most_rows=most, micro_sequences=micro))
        counts.add(len(parts))
        assert all(1 <= len(rows) <= micro for rows, _ in parts)
        seen += [int(row) for rows, weight in parts if weight for row in rows[:, 0]]
    assert len(counts) == 1
    assert sorted(seen) == list(range(sequences))


def test_a_rank_without_rows_gets_one_that_does_not_count() -> None:
    rows = np.ones((2, 5), dtype=np.int64)
    parts = list(micro_batches(rows, most_rows=3, micro_sequences=2))
    assert [(part.shape, weight) for part, weight in parts] == [((2, 5), 1.0), ((1, 5), 0.0)]
    assert not parts[1][0].any()


flags = st.builds(Flags, stop=st.booleans(), fenced=st.booleans(), save=st.booleans(), profile=st.booleans())


@given(ranks=st.lists(flags, min_size=1, max_size=20))
def test_a_flag_is_raised_for_all_when_one_rank_raises_it(ranks: list[Flags]) -> None:
    assert Flags.unpacked(sum(rank.packed() for rank in ranks)) == Flags(
        stop=any(rank.stop for rank in ranks),
        fenced=any(rank.fenced for rank in ranks),
        save=any(rank.save for rank in ranks),
        profile=any(rank.profile for rank in ranks),
    )


def test_flags_of_sixty_thousand_ranks_stay_apart() -> None:
    assert Flags.unpacked(65_535 * Flags(stop=True).packed()) == Flags(stop=True)
    both = Flags(stop=True, fenced=True)
    first = Flags(stop=True, fenced=True, save=True, profile=True)
    assert Flags.unpacked(65_534 * both.packed() + first.packed()) == first
