"""One pass over the chosen tokens of a split, which feeds all counters. Called by `trainer.data.inspect.run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.data.inspect.counters import Contents, Excerpt, IdCounts, LengthCounts, Samples, UInt64, digests_of
from trainer.data.inspect.reading import Opened, Piece, Portion, read

# Of a sample; more would be read by nobody.
SAMPLE_TOKENS = 512


@dataclass(frozen=True)
class Counted:
    """What one pass found."""

    opened: Opened
    shards: int
    tokens: int
    documents: int | None
    """Whole documents; None where nothing tells them apart."""
    ids: IdCounts
    lengths: LengthCounts
    contents: Contents
    samples: tuple[Excerpt, ...]

    @property
    def complete(self) -> bool:
        """Whether all of the split was read."""
        return self.tokens == sum(shard.tokens for shard in self.opened.shards.shards)


def scan(
    opened: Opened, chosen: Sequence[Portion], *, samples: int, advance: Callable[[int], None] = lambda _: None
) -> Counted:
    """Read the portions and count. `advance` is told the bytes of tokens as they are done."""
    ids, lengths, contents, picks = IdCounts(), LengthCounts(), Contents(), Samples(samples)
    tokens = documents = 0
    for piece in read(opened, chosen):
        ids.add(piece.tokens)
        tokens += len(piece.tokens)
        if piece.bounds is None:
            head = piece.tokens[:SAMPLE_TOKENS]
            digest = digests_of(head, np.array([0, len(head)]))[0]
            picks.offer(int(digest), _excerpt(piece, 0, len(piece.tokens), None))
        else:
            sizes = np.diff(piece.bounds)
            documents += len(sizes)
            lengths.add(sizes)
            digests = digests_of(piece.tokens, piece.bounds)
            contents.add(digests, piece.shard, piece.start + piece.bounds[:-1], sizes)
            _pick(picks, piece, digests)
        shard = opened.shards.shards[piece.shard]
        advance(len(piece.tokens) * shard.token_bytes // max(shard.tokens, 1))
    tells = opened.documents is not None or opened.eos_id is not None
    return Counted(
        opened, len(chosen), tokens, documents if tells else None, ids, lengths, contents, tuple(picks.picked())
    )


def _pick(picks: Samples, piece: Piece, digests: UInt64) -> None:
    assert piece.bounds is not None, "the piece has documents"
    for row in picks.candidates(digests):
        number = None if piece.first_document is None else piece.first_document + row
        excerpt = _excerpt(piece, int(piece.bounds[row]), int(piece.bounds[row + 1]), number)
        picks.offer(int(digests[row]), excerpt)


def _excerpt(piece: Piece, begin: int, end: int, document: int | None) -> Excerpt:
    ids = tuple(piece.tokens[begin : min(end, begin + SAMPLE_TOKENS)].tolist())
    return Excerpt(piece.shard, document, piece.start + begin, end - begin, ids)
