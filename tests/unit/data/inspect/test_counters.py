"""Counters against plain Python, whatever the pieces, and within their bounds."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.inspect.counters import Contents, Excerpt, IdCounts, LengthCounts, Samples, digests_of
from trainer.data.inspect.reading import PIECE_TOKENS, portions
from trainer.data.inspect.summary import lengths_of
from trainer.data.shards import MappedShard
from trainer.data.split import Shard

PIECES = st.lists(st.lists(st.integers(0, 300), max_size=30), max_size=6)


@given(PIECES)
def test_ids_are_counted(pieces: list[list[int]]) -> None:
    counter = IdCounts()
    for piece in pieces:
        counter.add(np.array(piece, dtype=np.uint16))
    expected = Counter(number for piece in pieces for number in piece)
    assert {number: count for number, count in enumerate(counter.counts.tolist()) if count} == expected


@given(PIECES)
def test_lengths_are_counted(pieces: list[list[int]]) -> None:
    counter = LengthCounts()
    for piece in pieces:
        counter.add(np.array(piece, dtype=np.int64))
    expected = Counter(number for piece in pieces for number in piece)
    assert dict(zip(counter.lengths.tolist(), counter.counts.tolist(), strict=True)) == expected
    summary = lengths_of(counter)
    if summary is None:
        assert not expected
        return
    every = sorted(expected.elements())
    for percent in (5, 25, 50, 75, 95, 99):
        found = getattr(summary, f"p{percent}")
        assert found == np.percentile(every, percent, method="inverted_cdf")
    assert sum(bucket.documents for bucket in summary.histogram) == len(every)


@given(st.lists(st.lists(st.integers(0, 2), max_size=3), max_size=40), st.integers(1, 40))
def test_equal_documents_are_found_whatever_the_limit(rows: list[list[int]], limit: int) -> None:
    contents = Contents(limit)
    bounds = np.cumsum([0, *map(len, rows)])
    tokens = np.array([number for row in rows for number in row], dtype=np.uint16)
    digests = digests_of(tokens, bounds)
    for half in (slice(0, len(rows) // 2), slice(len(rows) // 2, len(rows))):
        contents.add(digests[half], 7, bounds[:-1][half], np.diff(bounds)[half])
        assert contents.distinct <= limit
    expected = Counter(tuple(row) for row in rows)
    if contents.one_in == 1:
        assert (contents.documents, contents.distinct) == (len(rows), len(expected))
    times = sorted((count for count in expected.values() if count > 1), reverse=True)
    found = contents.most_repeated(len(rows))
    assert len(found) == len(times) or contents.one_in > 1
    for count, place in found:
        row = tuple(tokens[place.start : place.start + place.length].tolist())
        assert (expected[row], place.shard) == (count, 7)
        # The place is that of its first occurrence.
        assert place.start == bounds[[tuple(one) for one in rows].index(row)]
    assert contents.found_in(contents) == (contents.documents, contents.documents)


def test_the_share_of_repeats_is_fair_beyond_the_limit() -> None:
    digests = np.random.default_rng(0).integers(0, 1 << 63, 20_000, dtype=np.uint64)
    contents = Contents(limit=3000)
    for part in np.array_split(np.concatenate([digests, digests[:10_000]]), 7):
        contents.add(part, 0, np.arange(len(part)), np.full(len(part), 5))
    assert (contents.distinct, contents.one_in) <= (3000, 8)
    assert contents.one_in == 8
    share = (contents.documents - contents.distinct) / contents.documents
    assert abs(share - 1 / 3) < 0.03


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(0, 5), st.randoms())
def test_samples_do_not_depend_on_the_order(digests: list[int], number: int, random) -> None:
    def pick(ordered: list[int]) -> list[Excerpt]:
        samples = Samples(number)
        for start in range(0, len(ordered), 7):
            part = np.array(ordered[start : start + 7], dtype=np.uint64)
            for row in samples.candidates(part):
                samples.offer(int(part[row]), Excerpt(0, None, int(part[row]), 1, ()))
        return samples.picked()

    shuffled = list(digests)
    random.shuffle(shuffled)
    assert [one.start for one in pick(digests)] == sorted(set(digests))[:number]
    assert pick(shuffled) == pick(digests)


@given(
    st.lists(st.integers(0, 5 * PIECE_TOKENS), min_size=1, max_size=30),
    st.integers(1, 40 * PIECE_TOKENS) | st.none(),
    st.booleans(),
)
def test_portions_spread_over_the_split(sizes: list[int], most: int | None, whole: bool) -> None:
    shards = [Shard(str(i), size, 2 * size, lambda: MappedShard([])) for i, size in enumerate(sizes)]
    chosen = portions(shards, most, whole_shards=whole)
    assert [one.shard for one in chosen] == sorted({one.shard for one in chosen})
    for one in chosen:
        assert sizes[one.shard]
        assert one.windows[0][0] >= 0
        assert one.windows[-1][1] <= sizes[one.shard]
        assert all(a[1] <= b[0] for a, b in zip(one.windows, one.windows[1:], strict=False))
        assert not whole or one.windows == ((0, sizes[one.shard]),)
    assert bool(chosen) == any(sizes)
    if most is None or sum(sizes) <= most:
        assert sum(one.tokens for one in chosen) == sum(sizes)
    elif not whole:
        assert sum(one.tokens for one in chosen) <= max(most, PIECE_TOKENS)
