"""The order within a source: exact permutations, seekable, pinned for ever."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.order import SampleOrder, permute

sizes = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


def order_of(samples: list[int], *, group_bytes: int = 30, seed: int = 1, fingerprint: str = "f") -> SampleOrder:
    return SampleOrder(samples, samples, group_bytes=group_bytes, fingerprint=fingerprint, seed=seed)


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection(size: int, key: int) -> None:
    out = permute(np.arange(size), np.full(size, size), np.full(size, key, dtype=np.uint64))
    assert np.array_equal(np.sort(out), np.arange(size))


@given(st.integers(2**20, 2**50), st.integers(0, 2**64 - 1))
@settings(max_examples=30)
def test_permute_keeps_large_values_inside_and_apart(size: int, key: int) -> None:
    values = np.unique(np.linspace(0, size - 1, 200).astype(np.int64))
    out = permute(values, np.full(len(values), size), np.full(len(values), key, dtype=np.uint64))
    assert out.min() >= 0
    assert out.max() < size
    assert len(np.unique(out)) == len(values)


@given(sizes, st.integers(1, 100), st.integers(0, 2**31), st.integers(0, 5))
def test_every_epoch_is_an_exact_permutation(samples: list[int], group_bytes: int, seed: int, epoch: int) -> None:
    order = order_of(samples, group_bytes=group_bytes, seed=seed)
    ids = order.sample_ids(epoch * order.num_samples + np.arange(order.num_samples))
    assert np.array_equal(np.sort(ids), np.arange(order.num_samples))


@given(sizes, st.integers(0, 2**31), st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_any_position_can_be_asked_for_on_its_own(samples: list[int], seed: int, epochs: list[float]) -> None:
    order = order_of(samples, seed=seed)
    positions = [int(epoch * order.num_samples) for epoch in epochs]
    walked = order.sample_ids(np.arange(max(positions) + 1))
    fresh = order_of(samples, seed=seed)
    assert [int(fresh.sample_ids(np.array([p]))[0]) for p in positions] == walked[positions].tolist()


@given(sizes, st.integers(1, 60), st.integers(0, 2**31), st.integers(0, 3))
def test_windows_stay_within_the_shards_of_their_group(
    samples: list[int], group_bytes: int, seed: int, epoch: int
) -> None:
    order = order_of(samples, group_bytes=group_bytes, seed=seed)
    shard_of = np.repeat(np.arange(len(samples)), samples)
    for position in range(epoch * order.num_samples, (epoch + 1) * order.num_samples):
        ahead = order.shards_ahead(position)
        assert shard_of[order.sample_ids(np.array([position]))[0]] in ahead
        # Two groups at most, each larger than asked for by less than a shard.
        assert sum(samples[shard] for shard in ahead) < 2 * (group_bytes + max(samples))


def test_epochs_seeds_and_data_sets_have_orders_of_their_own() -> None:
    order = order_of([300, 300], group_bytes=1000)
    first, second = order.sample_ids(np.arange(600)), order.sample_ids(600 + np.arange(600))
    others = [
        second,
        order_of([300, 300], group_bytes=1000, seed=2).sample_ids(np.arange(600)),
        order_of([300, 300], group_bytes=1000, fingerprint="g").sample_ids(np.arange(600)),
    ]
    # A random permutation has one fixed point in the mean; ten are practically impossible.
    assert all((first == other).sum() < 10 for other in others)


def test_neighbours_are_torn_apart() -> None:
    ids = order_of([4000, 4000], group_bytes=10_000).sample_ids(np.arange(8000))
    # The mean distance of two random places in n is n / 3.
    assert abs(np.abs(np.diff(ids)).mean() - 8000 / 3) < 8000 / 50
    assert abs(np.corrcoef(ids, np.arange(8000))[0, 1]) < 0.05


def test_order_is_pinned() -> None:
    """Runs resume on this: a change here changes the data of every run under way."""
    order = SampleOrder([5, 9, 2], [50, 90, 20], group_bytes=100, fingerprint="pinned", seed=7)
    assert order.sample_ids(np.arange(20)).tolist() == PINNED


PINNED = [8, 6, 10, 15, 9, 14, 7, 12, 13, 11, 5, 1, 4, 2, 0, 3, 1, 2, 7, 10]
