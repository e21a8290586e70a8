"""From what was counted to the figures of the report. Pure but for the repeated documents, which are read once more.

Called by `trainer.data.inspect.run`.
"""

from __future__ import annotations

import itertools

import numpy as np

from trainer.data.inspect.counters import Contents, Excerpt, IdCounts, Int64, LengthCounts, Place
from trainer.data.inspect.report import (
    Bucket,
    IdCount,
    Lengths,
    Overlap,
    Rank,
    Repeated,
    Repeats,
    Sample,
    Vocabulary,
)
from trainer.data.inspect.scan import SAMPLE_TOKENS, Counted
from trainer.data.inspect.words import Words

LISTED_IDS = 20
LISTED_REPEATS = 3
# Below so many occurrences an id is called rare.
RARE = 100
# Points of the curve of counts by rank.
CURVE_POINTS = 64
SAMPLE_IDS = 64


def lengths_of(counted: LengthCounts) -> Lengths | None:
    """Percentiles and histogram; None without documents."""
    lengths, counts = counted.lengths, counted.counts
    documents = int(counts.sum())
    if not documents:
        return None
    below = np.cumsum(counts)

    def percentile(percent: int) -> int:
        # The smallest length that so many documents do not exceed.
        return int(lengths[np.searchsorted(below, -(-documents * percent // 100))])

    return Lengths(
        shortest=int(lengths[0]),
        mean=float(lengths @ counts) / documents,
        longest=int(lengths[-1]),
        p5=percentile(5),
        p25=percentile(25),
        p50=percentile(50),
        p75=percentile(75),
        p95=percentile(95),
        p99=percentile(99),
        histogram=_histogram(lengths, counts),
    )


def _histogram(lengths: Int64, counts: Int64) -> tuple[Bucket, ...]:
    # 0, 1, 2-3, 4-7, ...: the number of bits of a length says where it belongs.
    def edge(bits: int) -> int:
        return 1 << bits - 1 if bits else 0

    buckets = []
    for bits in range(int(lengths[0]).bit_length(), int(lengths[-1]).bit_length() + 1):
        start, stop = edge(bits), edge(bits + 1)
        inside = slice(*np.searchsorted(lengths, [start, stop]))
        documents, tokens = int(counts[inside].sum()), int(lengths[inside] @ counts[inside])
        buckets.append(Bucket(start=start, stop=stop, documents=documents, tokens=tokens))
    return tuple(buckets)


def vocabulary_of(counted: IdCounts, words: Words) -> Vocabulary | None:
    """Use of the vocabulary; None without tokens."""
    size = words.tokenizer.vocab_size if words.tokenizer else None
    counts = np.zeros(max(size or 0, len(counted.counts)), dtype=np.int64)
    counts[: len(counted.counts)] = counted.counts
    total = int(counts.sum())
    if not total:
        return None
    # By count, the lower id first where counts are equal.
    order, rising = np.argsort(-counts, kind="stable"), np.argsort(counts, kind="stable")
    used = int((counts > 0).sum())
    falling = counts[order[:used]]
    reached = np.cumsum(falling)
    frequencies = falling / total

    def listed(ids: Int64) -> tuple[IdCount, ...]:
        return tuple(
            IdCount(
                id=number,
                token=words.spell(number) if words.spell else None,
                count=int(counts[number]),
                share=int(counts[number]) / total,
            )
            for number in ids.tolist()
        )

    return Vocabulary(
        size=size,
        used=used,
        largest_id=len(counted.counts) - 1,
        never_used=size - used if size is not None else None,
        never_used_ids=_ranges(np.flatnonzero(counts == 0)) if size is not None else (),
        used_once=int((counts == 1).sum()),
        used_below_100=int(((counts > 0) & (counts < RARE)).sum()),
        ids_for_50_percent=_ids_for(reached, 50),
        ids_for_90_percent=_ids_for(reached, 90),
        ids_for_99_percent=_ids_for(reached, 99),
        entropy_bits=float(-(frequencies @ np.log2(frequencies))) + 0.0,
        most_used=listed(order[: min(LISTED_IDS, used)]),
        least_used=listed(rising[len(counts) - used :][:LISTED_IDS]),
        ranks=_curve(falling),
    )


def _ids_for(reached: Int64, percent: int) -> int:
    return int(np.searchsorted(reached, -(-int(reached[-1]) * percent // 100))) + 1


def _ranges(ids: Int64) -> tuple[tuple[int, int], ...]:
    """[3, 4, 5, 9] as (3, 5), (9, 9)."""
    if not len(ids):
        return ()
    breaks = np.flatnonzero(np.diff(ids) > 1) + 1
    return tuple((int(run[0]), int(run[-1])) for run in np.split(ids, breaks))


def _curve(falling: Int64) -> tuple[Rank, ...]:
    ranks = np.unique(np.geomspace(1, len(falling), CURVE_POINTS).round().astype(np.int64))
    return tuple(Rank(rank=rank, count=int(falling[rank - 1])) for rank in ranks.tolist())


def repeats_of(counted: Counted, words: Words) -> Repeats | None:
    """Exact repeats; None without documents."""
    contents = counted.contents
    documents, distinct = contents.documents, contents.distinct
    if not documents:
        return None
    return Repeats(
        documents=documents,
        distinct=distinct,
        repeats=documents - distinct,
        share=(documents - distinct) / documents,
        one_in=contents.one_in,
        most_repeated=tuple(
            Repeated(times=times, sample=sample_of(counted, _read_again(counted, place), words))
            for times, place in contents.most_repeated(LISTED_REPEATS)
        ),
    )


def _read_again(counted: Counted, place: Place) -> Excerpt:
    # Counting cannot know which documents will turn out to be frequent, and keeps the text of none.
    tokens = np.empty(min(place.length, SAMPLE_TOKENS), dtype=np.int64)
    counted.opened.shards.shards[place.shard].open().copy_to(place.start, tokens)
    return Excerpt(place.shard, None, place.start, place.length, tuple(tokens.tolist()))


def overlap_of(split: Contents, train: Contents) -> Overlap | None:
    """Documents of a split that training has too; None where there are none to compare."""
    documents, found = split.found_in(train)
    return Overlap(documents=documents, found=found, share=found / documents) if documents else None


def sample_of(counted: Counted, excerpt: Excerpt, words: Words) -> Sample:
    """An excerpt as people read it, the end-of-text token at its ends left out."""
    ids, eos_id = excerpt.ids, counted.opened.eos_id
    is_cut = excerpt.length > len(ids)
    text = None
    if words.decode is not None:
        shown = list(itertools.dropwhile(lambda number: number == eos_id, ids))
        while shown and shown[-1] == eos_id and not is_cut:
            shown.pop()
        text = words.decode(shown)
        # The last token may be a piece of a character.
        text = text.rstrip("\ufffd") if is_cut else text
    return Sample(
        shard=counted.opened.shards.shards[excerpt.shard].name,
        document=excerpt.document,
        start=excerpt.start,
        tokens=excerpt.length,
        ids=ids[:SAMPLE_IDS],
        text=text,
        cut=is_cut,
    )
