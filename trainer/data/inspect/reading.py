"""Which tokens of a split are read, and how: shard after shard, in pieces of bounded size, with documents marked.

Used by `trainer.data.inspect.scan`. Shards of a prepared set say where documents begin; in raw files the end-of-text id
tells, where it is known. Damage that a shard's size and type do not show (ids outside of the vocabulary, documents that
overlap or are missing) is a UserError that names the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.data.inspect.counters import Int64
from trainer.data.shards import DATASET_FILE, MappedShard, Tokens
from trainer.data.split import Shard, SplitShards
from trainer.errors import UserError
from trainer.storage_errors import clean_url

# Tokens of raw files that are held at once; a document of theirs that is longer counts as several.
PIECE_TOKENS = 1 << 20
# More ids than any vocabulary has: what holds them is no file of tokens, or one of another type.
MOST_IDS = 1 << 24


@dataclass(frozen=True)
class Portion:
    """What to read of one shard: all of it, or windows of its tokens."""

    shard: int
    windows: tuple[tuple[int, int], ...]
    """(first token, one behind the last)."""

    @property
    def tokens(self) -> int:
        """Tokens in the windows."""
        return sum(stop - start for start, stop in self.windows)


@dataclass(frozen=True)
class Piece:
    """Tokens that follow each other in one shard."""

    shard: int
    start: int
    """Place of the first of them in the shard."""
    tokens: Tokens
    bounds: Int64 | None
    """Where in `tokens` whole documents begin, and the last one ends [documents + 1]; None where nothing tells."""
    first_document: int | None
    """Number in the shard of the first one, where it is known."""


@dataclass(frozen=True)
class Opened:
    """A split that is ready for reading."""

    path: str
    shards: SplitShards
    documents: tuple[int, ...] | None
    """Documents of each shard, as dataset.json says; None for raw files."""
    vocab_size: int | None
    eos_id: int | None

    def url(self, shard: int) -> str:
        """What messages call a shard's file."""
        name = self.shards.shards[shard].name
        path = clean_url(self.path).rstrip("/")
        return path if path.rsplit("/", 1)[-1] == name else f"{path}/{name}"


def portions(shards: Sequence[Shard], most_tokens: int | None, *, whole_shards: bool) -> list[Portion]:
    """What to read, spread evenly over the split: about `most_tokens` tokens, or all of them if that is None.

    At least one shard is read. Unless `whole_shards`, one that is larger than its part is read in windows.
    """
    total = sum(shard.tokens for shard in shards)
    numbers = [number for number, shard in enumerate(shards) if shard.tokens]
    if most_tokens is None or total <= most_tokens:
        return [Portion(number, ((0, shards[number].tokens),)) for number in numbers]
    count = max(1, most_tokens * len(numbers) // total)
    chosen = [numbers[place] for place in _spread(count, len(numbers))]
    if whole_shards:
        return [Portion(number, ((0, shards[number].tokens),)) for number in chosen]
    windows_each = max(1, most_tokens // count // PIECE_TOKENS)
    return [Portion(number, _windows(shards[number].tokens, windows_each)) for number in chosen]


def read(opened: Opened, chosen: Iterable[Portion]) -> Iterator[Piece]:
    """The pieces of the chosen portions, in order."""
    for portion in chosen:
        shard = opened.shards.shards[portion.shard].open()
        if opened.documents is None:
            pieces = _raw(opened, portion, shard)
        else:
            pieces = _prepared(opened, portion.shard, shard, opened.documents[portion.shard])
        for piece in pieces:
            _check_ids(opened, piece)
            yield piece


def _spread(count: int, size: int) -> list[int]:
    """`count` of `size` places, each in the middle of one of `count` equal stretches."""
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]


def _windows(tokens: int, count: int) -> tuple[tuple[int, int], ...]:
    pieces = -(-tokens // PIECE_TOKENS)
    if count >= pieces:
        return ((0, tokens),)
    return tuple((place * PIECE_TOKENS, min(tokens, (place + 1) * PIECE_TOKENS)) for place in _spread(count, pieces))


def _prepared(opened: Opened, number: int, shard: MappedShard, documents: int) -> Iterator[Piece]:
    batches = shard.documents()
    assert batches is not None, "an Arrow shard has documents"
    start = document = 0
    for tokens, bounds in batches:
        if (np.diff(bounds) < 0).any():
            raise _damaged(opened, number, "has documents that overlap", "documents one after the other")
        yield Piece(number, start, tokens, bounds.astype(np.int64), document)
        start, document = start + len(tokens), document + len(bounds) - 1
    if document != documents:
        raise _damaged(opened, number, f"has {document} documents", f"{documents} documents")


def _raw(opened: Opened, portion: Portion, shard: MappedShard) -> Iterator[Piece]:
    length = opened.shards.shards[portion.shard].tokens
    for begin, end in portion.windows:
        blocks = (_copy(shard, place, min(end, place + PIECE_TOKENS)) for place in range(begin, end, PIECE_TOKENS))
        if opened.eos_id is None:
            place = begin
            for block in blocks:
                yield Piece(portion.shard, place, block, None, None)
                place += len(block)
            continue
        place = begin
        # llm.c writes the token in front of a document, others behind it.
        is_in_front = int(_copy(shard, 0, 1)[0]) == opened.eos_id
        cut = _Cutter(opened.eos_id, is_in_front, begins=begin == 0, ends=end == length)
        for tokens, bounds in cut.documents(blocks):
            yield Piece(portion.shard, place, tokens, bounds, None)
            place += len(tokens)


@dataclass(frozen=True)
class _Cutter:
    """Finds the documents in blocks of tokens that follow each other."""

    eos_id: int
    is_in_front: bool
    begins: bool
    """The first token begins a document."""
    ends: bool
    """The last token ends one."""

    def documents(self, blocks: Iterable[Tokens]) -> Iterator[tuple[Tokens, Int64]]:
        """All tokens, in pieces, with the bounds of the documents that are whole."""
        rest: Tokens | None = None
        begins = self.begins
        for block in blocks:
            tokens = block if rest is None else np.concatenate([rest, block])
            cuts = np.flatnonzero(tokens == self.eos_id) + (0 if self.is_in_front else 1)
            cuts = cuts[cuts > 0]
            last = int(cuts[-1]) if len(cuts) else 0
            if len(tokens) - last >= PIECE_TOKENS:
                last = len(tokens)
                cuts = np.append(cuts, last)
            if last:
                yield tokens[:last], np.append(0, cuts) if begins else cuts
                begins = True
            rest = tokens[last:]
        if rest is not None and len(rest):
            yield rest, np.array([0, len(rest)] if begins and self.ends else [0])


def _copy(shard: MappedShard, start: int, stop: int) -> Tokens:
    # Signed and wide enough for every type of raw files, so that ids which make no sense are seen.
    tokens = np.empty(stop - start, dtype=np.int64)
    shard.copy_to(start, tokens)
    return tokens


def _check_ids(opened: Opened, piece: Piece) -> None:
    limit = opened.vocab_size or MOST_IDS
    if not len(piece.tokens) or (int(piece.tokens.max()) < limit and int(piece.tokens.min()) >= 0):
        return
    place = int(np.flatnonzero((piece.tokens >= limit) | (piece.tokens < 0))[0])
    found = f"has id {int(piece.tokens[place])} at token {piece.start + place}"
    if opened.documents is not None:
        raise _damaged(opened, piece.shard, found, f"ids below {limit}, the size of the vocabulary")
    raise UserError(
        f"{opened.url(piece.shard)} {found}",
        expected=f"ids from 0 to {limit - 1}" + (", as the tokenizer has" if opened.vocab_size else ""),
        fix="name the tokenizer that made the file, or write the file again as uint16 or uint32 tokens",
    )


def _damaged(opened: Opened, shard: int, found: str, expected: str) -> UserError:
    return UserError(
        f"shard {opened.url(shard)} is damaged: it {found}",
        expected=f"{expected} ({DATASET_FILE})",
        fix="copy the shard again, or delete it and prepare the data set again",
    )
