"""Mixtures: exact shares, every source's sequences in turn, seekable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.mixture import BLOCK_SEQUENCES, PERIOD_SEQUENCES, GlobalOrder, Mixture
from trainer.data.order import SampleOrder
from trainer.errors import UserError

weight_lists = st.lists(st.floats(0.001, 100), min_size=2, max_size=6)


@given(weight_lists, st.integers(1, 8 * BLOCK_SEQUENCES), st.integers(0, 2**40))
@settings(max_examples=30)
def test_any_stretch_has_every_source_near_its_share(weights: list[float], length: int, start: int) -> None:
    mixture = Mixture(weights, identity="i")
    source, _ = mixture.assign(np.arange(start, start + length))
    counts = np.bincount(source, minlength=len(weights))
    share = np.array(weights) / sum(weights) * length
    # Whole blocks are off by a few sequences in all; the two blocks that are cut are random samples of their share.
    spread = 6 * np.sqrt(BLOCK_SEQUENCES * share / length)
    assert (np.abs(counts - share) <= 12 + spread).all()


@given(weight_lists)
@settings(max_examples=5)
def test_a_period_has_exact_shares_and_uses_every_sequence_once(weights: list[float]) -> None:
    mixture = Mixture(weights, identity="i")
    source, within = mixture.assign(np.arange(PERIOD_SEQUENCES))
    for number, weight in enumerate(weights):
        mine = within[source == number]
        assert abs(len(mine) - weight / sum(weights) * PERIOD_SEQUENCES) < 1
        assert np.array_equal(np.sort(mine), np.arange(len(mine)))
    first_of_next = mixture.assign(np.arange(PERIOD_SEQUENCES, PERIOD_SEQUENCES + BLOCK_SEQUENCES))
    for number in range(len(weights)):
        mine = first_of_next[1][first_of_next[0] == number]
        assert mine.size == 0 or mine.min() >= (source == number).sum()


@given(weight_lists)
@settings(max_examples=10)
def test_shares_stay_close_at_every_block(weights: list[float]) -> None:
    mixture = Mixture(weights, identity="i")
    source, _ = mixture.assign(np.arange(200 * BLOCK_SEQUENCES))
    for number, weight in enumerate(weights):
        counts = np.cumsum((source == number).reshape(200, -1).sum(axis=1))
        share = weight / sum(weights) * BLOCK_SEQUENCES * np.arange(1, 201)
        assert np.abs(counts - share).max() <= 12


@given(weight_lists, st.lists(st.integers(0, 2**40), min_size=1, max_size=10))
def test_any_position_can_be_asked_for_on_its_own(weights: list[float], positions: list[int]) -> None:
    together = Mixture(weights, identity="i").assign(np.array(positions))
    alone = [Mixture(weights, identity="i").assign(np.array([position])) for position in positions]
    assert together[0].tolist() == [int(source[0]) for source, _ in alone]
    assert together[1].tolist() == [int(within[0]) for _, within in alone]


def test_sources_are_mixed_within_a_block() -> None:
    source, _ = Mixture([1, 1], identity="i").assign(np.arange(BLOCK_SEQUENCES))
    # Runs of one source in a fair shuffle: about half as many as sequences.
    assert abs(int((np.diff(source) != 0).sum()) - BLOCK_SEQUENCES / 2) < 100


def test_one_source_is_walked_in_order() -> None:
    source, within = Mixture([3.0], identity="i").assign(np.array([0, 5, 10**12]))
    assert source.tolist() == [0, 0, 0]
    assert within.tolist() == [0, 5, 10**12]


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0], [20.0, 3.0, 1.0]])
def test_the_earliest_position_to_come_never_falls_and_is_never_passed(weights: list[float]) -> None:
    mixture = Mixture(weights, identity="test")
    earliest = np.asarray([mixture.earliest(position) for position in range(0, 5 * BLOCK_SEQUENCES, 64)])
    assert (np.diff(earliest, axis=0) >= 0).all()
    for lowest, start in zip(earliest, range(0, 5 * BLOCK_SEQUENCES, 64), strict=True):
        source, within = mixture.assign(np.arange(start, 6 * BLOCK_SEQUENCES))
        assert (within >= lowest[source]).all()
    assert (earliest[-1] > 0).all()


def test_a_weight_too_small_to_count_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.train\[1\]\.weight is 1e-09"):
        Mixture([1.0, 1e-9], identity="i")


def test_mixture_is_pinned() -> None:
    """Runs resume on this: a change here changes the data of every run under way."""
    orders = [SampleOrder([7], [7], group_bytes=10, fingerprint=name, seed=1) for name in ("a", "b")]
    assert GlobalOrder(orders, [2, 1], identity="pinned").ids(np.arange(1020, 1030)).tolist() == PINNED


PINNED = [[0, 4], [0, 6], [0, 2], [0, 5], [0, 6], [1, 5], [0, 2], [0, 0], [0, 0], [0, 0]]
