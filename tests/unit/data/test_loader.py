"""Batches: the same on any number of ranks, from any step on; errors at the consumer; validation once per sample."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.loader import BatchLoader, read_rows, validation_batches
from trainer.data.order import SampleOrder
from trainer.data.shards import MappedShard
from trainer.data.split import Shard, TokenSplit
from trainer.errors import UserError

T = 4


def split_of(
    num_samples: int, *, name: str = "s", shards: int = 3, broken: Sequence[int] = (), remote: int | None = None
) -> TokenSplit:
    """A split in memory whose token k is k; shards in `broken` cannot be opened."""
    parts = np.array_split(np.arange(num_samples * T + 1), shards)

    def opener(number: int):
        def open_shard() -> MappedShard:
            if number in broken:
                raise OSError(f"shard {number} of {name} is gone")
            return MappedShard([parts[number]])

        return open_shard

    made = [Shard(str(i), len(part), 2 * len(part), opener(i)) for i, part in enumerate(parts)]
    return TokenSplit(name, made, fingerprint=name, sequence_length=T, remote_bytes=remote)


def loader_of(splits: list[TokenSplit], **options) -> BatchLoader:
    return BatchLoader(splits, **{"batch_sequences": 6, "sequence_length": T, "seed": 1, **options})


@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 40), st.integers(0, 30), st.booleans())
def test_ranks_together_make_the_global_batch_at_any_world_size(
    batch: int, world: int, samples: int, start: int, two: bool
) -> None:
    splits = [split_of(samples), split_of(17, name="t")][: 1 + two]
    options = {"batch_sequences": batch, "start_step": start, "workers": 0}
    with loader_of(splits, **options) as alone:
        expected = [next(alone) for _ in range(3)]
        ids = [alone.batch_ids(step) for step in range(start, start + 3)]
    gathered = [np.full((batch, T + 1), -1) for _ in range(3)]
    for rank in range(world):
        with loader_of(splits, **options, rank=rank, world_size=world) as loader:
            for number in range(3):
                mine = next(loader)
                gathered[number][rank::world] = mine.tokens
                assert (mine.step, mine.sha256, mine.epoch) == (
                    start + number,
                    expected[number].sha256,
                    expected[number].epoch,
                )
    for number in range(3):
        assert np.array_equal(gathered[number], expected[number].tokens)
        assert np.array_equal(gathered[number][:, 0], ids[number][:, 1] * T)
        assert expected[number].sha256 == hashlib.sha256(ids[number].astype("<i8").tobytes()).hexdigest()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_whatever_the_number_of_workers(workers: int) -> None:
    splits = [split_of(50)]
    with loader_of(splits, workers=workers, prefetch_batches=5) as loader:
        batches = [next(loader) for _ in range(40)]
        assert [batch.step for batch in batches] == list(range(40))
        for batch in batches:
            assert np.array_equal(batch.tokens[:, 0], loader.batch_ids(batch.step)[:, 1] * T)
    assert batches[-1].epoch == pytest.approx(40 * 6 / 50)


def test_a_resumed_loader_goes_on_as_if_it_had_not_stopped() -> None:
    splits = [split_of(50), split_of(31, name="t")]
    with loader_of(splits, weights=[3, 1]) as whole:
        expected = [next(whole).tokens for _ in range(30)]
    with loader_of(splits, weights=[3, 1], start_step=17) as resumed:
        for tokens in expected[17:]:
            assert np.array_equal(next(resumed).tokens, tokens)


def test_an_epoch_reads_every_sample_once() -> None:
    with loader_of([split_of(60)]) as loader:
        rows = np.concatenate([next(loader).tokens[:, 0] for _ in range(10)])
    assert np.array_equal(np.sort(rows), np.arange(60) * T)


def test_a_batch_is_the_consumers_to_keep_and_change() -> None:
    with loader_of([split_of(50)], prefetch_batches=1) as loader:
        first = next(loader)
        kept = first.tokens.copy()
        for _ in range(5):
            next(loader).tokens[:] = -1
        assert np.array_equal(first.tokens, kept)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_reaches_the_consumer_at_its_step_and_stays(workers: int) -> None:
    splits = [split_of(50, broken=[1])]
    with loader_of(splits, workers=workers) as loader:
        step_of = {int(sample): step for step in range(9) for sample in loader.batch_ids(step)[:, 1]}
        # The shard that cannot be opened holds samples 17 to 33, and the end of the one before.
        first_bad = min(step_of[sample] for sample in range(16, 34) if sample in step_of)
        assert [next(loader).step for _ in range(first_bad)] == list(range(first_bad))
        for _ in range(2):
            with pytest.raises(OSError, match="shard 1 of s is gone"):
                next(loader)


def test_a_step_that_failed_without_workers_is_the_next_one_still() -> None:
    broken = [0, 1, 2]
    with loader_of([split_of(50, broken=broken)], workers=0) as loader:
        with pytest.raises(OSError, match="is gone"):
            next(loader)
        broken.clear()
        assert next(loader).step == 0


def test_closing_ends_the_threads() -> None:
    before = set(threading.enumerate())
    loader = loader_of([split_of(50, remote=10**6)], workers=2)
    next(loader)
    loader.close()
    left = {thread.name.rsplit("_", 1)[0] for thread in set(threading.enumerate()) - before}
    assert "loader" not in left


READS_AHEAD_AND_EXITS = """
import atexit, threading
import numpy as np
from trainer.data.loader import BatchLoader
from trainer.data.shards import MappedShard
from trainer.data.split import Shard, TokenSplit

closed, opened = threading.Event(), []

def opener(number):
    def open_shard():
        if threading.current_thread().name.startswith("shard-ahead"):
            opened.append(number)
            closed.wait()
        return MappedShard([np.arange(41)])
    return open_shard

shards = [Shard(str(i), 41, 82, opener(i)) for i in range(10)]
split = TokenSplit("s", shards, fingerprint="f", sequence_length=4, remote_bytes=1000)
with BatchLoader([split], batch_sequences=1, sequence_length=4, seed=1, prefetch_batches=1) as loader:
    next(loader)
closed.set()
atexit.register(lambda: print(len(opened)))
"""


def test_a_process_that_closed_its_loader_exits_without_the_downloads_ahead() -> None:
    done = subprocess.run(
        [sys.executable, "-c", READS_AHEAD_AND_EXITS],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    # The one under way may end; the other nine shards of the group are not begun.
    assert int(done.stdout) <= 1


def test_remote_shards_of_the_next_group_are_fetched_ahead() -> None:
    split, opened = counted_split()
    groups = [split.shard_samples[shard] for shard in one_shard_groups(split).shards_ahead(0)]
    assert min(groups) > 2, "the first batches lie within the first group"
    # One shard per group: the first batch needs one shard, and the second is on its way.
    with loader_of([split], batch_sequences=1, shuffle_group_bytes=1, prefetch_batches=1) as loader:
        next(loader)
        for shard in one_shard_groups(split).shards_ahead(0):
            assert opened[shard].wait(60)
    split.close()


def test_the_group_of_the_oldest_batch_is_kept_while_younger_ones_are_assembled() -> None:
    split, _ = counted_split()
    windows = []
    split.prefetch = windows.append
    # More batches are under way than a group has.
    with loader_of([split], batch_sequences=1, shuffle_group_bytes=1, prefetch_batches=20) as loader:
        for step in range(80):
            next(loader)
            sample = int(loader.batch_ids(step + 1)[0, 1])
            assert int(np.searchsorted(np.cumsum(split.shard_samples), sample, side="right")) in windows[-1]
    assert len(windows) > 10, "the window moves on"


def counted_split() -> tuple[TokenSplit, list[threading.Event]]:
    """A remote split of four shards, and for each whether it was opened."""
    parts = np.array_split(np.arange(101), 4)
    opened = [threading.Event() for _ in parts]

    def opener(number: int):
        def open_shard() -> MappedShard:
            opened[number].set()
            return MappedShard([parts[number]])

        return open_shard

    shards = [Shard(str(i), len(part), len(part), opener(i)) for i, part in enumerate(parts)]
    return TokenSplit("s", shards, fingerprint="f", sequence_length=T, remote_bytes=1000), opened


def one_shard_groups(split: TokenSplit) -> SampleOrder:
    return SampleOrder(split.shard_samples, split.shard_bytes, group_bytes=1, fingerprint=split.fingerprint, seed=1)


@pytest.mark.parametrize("bad", [200, -1])
def test_an_id_outside_the_vocabulary_names_source_sample_and_id(bad: int) -> None:
    tokens = np.arange(41)
    tokens[22] = bad
    split = TokenSplit(
        "folder/x.npy",
        [Shard("x", 41, 82, lambda: MappedShard([tokens]))],
        fingerprint="f",
        sequence_length=T,
    )
    ids = np.array([[0, 3], [1, 4], [1, 5]])
    with pytest.raises(UserError, match=rf"folder/x\.npy has token id {bad} in sample 5"):
        read_rows([split_of(10), split], ids, T, vocab_size=200)
    assert read_rows([split_of(10), split], ids[:2], T, vocab_size=200).max() < 200


def test_ids_up_to_the_vocabulary_size_pass() -> None:
    with loader_of([split_of(10)], vocab_size=41) as loader:
        assert max(int(next(loader).tokens.max()) for _ in range(10)) == 40


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(1, 40)),
    st.integers(1, 7),
    st.integers(1, 5),
)
def test_validation_reads_the_same_samples_once_at_any_world_size(
    sizes: list[int], sequences: int | None, world: int, micro: int
) -> None:
    splits = [split_of(size, name=str(number), shards=1) for number, size in enumerate(sizes)]
    alone = np.concatenate(list(validation_batches(splits, sequences=sequences, micro=micro)))
    chosen = min(sequences or sum(sizes), sum(sizes))
    assert len(alone) == chosen
    per_rank = [
        list(validation_batches(splits, sequences=sequences, rank=rank, world=world, micro=micro))
        for rank in range(world)
    ]
    assert {len(batches) for batches in per_rank} == {math.ceil(math.ceil(chosen / world) / micro)}
    assert all(len(batch) <= micro for batches in per_rank for batch in batches)
    together = np.concatenate([batch for batches in per_rank for batch in batches])
    assert sorted(together.tolist()) == sorted(alone.tolist())


def test_validation_samples_are_spread_evenly() -> None:
    rows = np.concatenate(list(validation_batches([split_of(100)], sequences=4)))
    assert rows[:, 0].tolist() == [0, 25 * T, 50 * T, 75 * T]
