"""The report of `gpt-run data inspect`: plain values, whose names are those of `--json`.

Filled by `trainer.data.inspect.run`; shown by `text` and `html`. What a set does not tell is null: raw token files know
neither their documents nor their text, unless a tokenizer is given.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Filter(_Part):
    """One rule of the preparation, from dataset.json."""

    name: str
    seen: int
    """Documents that reached it."""
    dropped: int
    """Documents that it left out."""
    share: float
    """dropped / seen."""


class Read(_Part):
    """How much of a split the figures come from."""

    shards: int
    tokens: int
    documents: int | None
    share: float
    """Of the split's tokens."""
    complete: bool
    """Whether all of it was read; else the figures are those of a sample of its shards."""


class Bucket(_Part):
    """Documents of similar length."""

    start: int
    """The shortest length in tokens."""
    stop: int
    """One more than the longest."""
    documents: int
    tokens: int
    """Tokens of these documents together."""


class Lengths(_Part):
    """Lengths of documents in tokens, the end-of-text token included."""

    shortest: int
    mean: float
    longest: int
    p5: int
    """5% of the documents have at most this length; the other percentiles likewise."""
    p25: int
    p50: int
    p75: int
    p95: int
    p99: int
    histogram: tuple[Bucket, ...]
    """By powers of two, without a gap from the shortest to the longest."""


class IdCount(_Part):
    """How often one id occurs."""

    id: int
    token: str | None
    """What it stands for, where a tokenizer says."""
    count: int
    share: float
    """Of the tokens that were read."""


class Rank(_Part):
    """A point of the curve of counts by rank."""

    rank: int
    """1 is the id that occurs most."""
    count: int


class Vocabulary(_Part):
    """Which ids occur, and how often."""

    size: int | None
    """Ids that the vocabulary has, where it is known."""
    used: int
    """Ids that occur."""
    largest_id: int
    never_used: int | None
    """Ids of the vocabulary that do not occur."""
    never_used_ids: tuple[tuple[int, int], ...]
    """The same as ranges, [first, last]."""
    used_once: int
    """Ids that occur one time."""
    used_below_100: int
    """Ids that occur 1 to 99 times: too few to learn much about them."""
    ids_for_50_percent: int
    """So many of the most used ids make up 50% of the tokens."""
    ids_for_90_percent: int
    ids_for_99_percent: int
    entropy_bits: float
    """Of the ids' frequencies, per token: what a model pays that knows nothing but these."""
    most_used: tuple[IdCount, ...]
    least_used: tuple[IdCount, ...]
    """Of the ids that occur, the rarest first."""
    ranks: tuple[Rank, ...]
    """Some points of the curve of counts by rank, dense enough to draw it."""


class Sample(_Part):
    """The beginning of a document, or of a stretch of tokens where documents are not known."""

    shard: str
    document: int | None
    """Its number in the shard, from 0."""
    start: int
    """Place of its first token in the shard, from 0."""
    tokens: int
    """Length of the document or stretch."""
    ids: tuple[int, ...]
    """Its first ids."""
    text: str | None
    """Its first tokens decoded, where a tokenizer says."""
    cut: bool
    """Whether it goes on behind `text`."""


class Repeated(_Part):
    """A document that occurs several times, token by token."""

    times: int
    sample: Sample
    """The first one that was read."""


class Repeats(_Part):
    """Exact repeats among the documents that were read."""

    documents: int
    """Documents that were compared."""
    distinct: int
    """How many different ones there are among them."""
    repeats: int
    """documents - distinct: those that could go."""
    share: float
    """repeats / documents."""
    one_in: int
    """1: all documents were compared. 4: those of every fourth content, picked by its hash, to bound the memory."""
    most_repeated: tuple[Repeated, ...]


class Overlap(_Part):
    """Documents of a split that are also in the training split, token by token."""

    documents: int
    """Documents that were looked up."""
    found: int
    share: float
    """found / documents."""


class Split(_Part):
    """One split. What has to be counted is null where nothing was read, since the split is empty."""

    name: str
    tokens: int
    documents: int | None
    shards: int
    token_bytes: int
    """Bytes that the tokens take on disk, unpacked."""
    text_bytes: int | None
    """UTF-8 bytes of the text behind them."""
    bytes_per_token: float | None
    read: Read
    lengths: Lengths | None
    vocabulary: Vocabulary | None
    repeats: Repeats | None
    also_in_train: Overlap | None
    """For other splits than `train`, where both were read: text that was trained on does not tell how good a model is.
    """
    samples: tuple[Sample, ...]


class Tokenizer(_Part):
    """The tokenizer that made the tokens."""

    name: str
    fingerprint: str | None
    vocab_size: int
    eos_id: int | None
    """Id that ends documents."""


class Report(_Part):
    """A data set at a glance."""

    path: str
    name: str | None
    """From dataset.json, as are the next two; null for raw files."""
    created_at: str | None
    sources: tuple[dict[str, Any], ...]
    fingerprint: str
    """As runs and checkpoints know the set."""
    tokenizer: Tokenizer | None
    filters: tuple[Filter, ...]
    splits: tuple[Split, ...]
    verified_shards: int | None
    """Shards whose hash was compared; null where that was not asked for."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return self.model_dump(mode="json")
