"""Read samples from one opened split of one source: the shards laid end to end, cut into windows.

Built by `trainer.data.dataset`, read by `trainer.data.loader`. Sample i of length T is the tokens [i*T, i*T+T] of the
split's shards laid end to end (T+1 of them: inputs and targets overlap by T); it may cross shards, and the tail that
fills no sample is left out. A packed split's samples are its rows, of T+1 tokens with their marks, which cross no
shards. Shards are mapped when they are first read; remote ones can be fetched ahead. A shard's last sample ends in the
following one, which the order puts elsewhere: the heads of remote shards are kept in memory, T tokens of each, so that
no shard is fetched again for them.

Shapes: n = samples asked for, T = sequence length, S = shards.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.order import Int64
from trainer.data.shards import MappedShard, Tokens
from trainer.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from trainer.errors import UserError

# Mapped at once per split: bounds open files; a mapping costs a file descriptor and no memory of its own.
MAX_OPEN_SHARDS = 256


@dataclass(frozen=True)
class Shard:
    """One shard of a split: its length, and how to map it."""

    name: str
    tokens: int
    token_bytes: int
    open: Callable[[], MappedShard]


@dataclass(frozen=True)
class TokenizerInfo:
    """The tokenizer behind a prepared set; `path` is its tokenizer.json where one lies beside the data."""

    name: str
    fingerprint: str
    vocab_size: int
    eos_id: int
    path: str | None

    def gives_ids_of(self, file: Path) -> bool:
        """Whether another tokenizer has the same id for each token, in whatever form it was saved.

        Without `path` only the same form is known to be the same.
        """
        theirs = load_tokenizer(file)
        if tokenizer_fingerprint(theirs) == self.fingerprint:
            return True
        return self.path is not None and theirs.get_vocab() == load_tokenizer(self.path).get_vocab()


@dataclass(frozen=True)
class SplitShards:
    """The shards of one split of one source, as far as they are known before one of them is read."""

    name: str
    """What messages call the split."""
    shards: tuple[Shard, ...]
    fingerprint: str
    remote_bytes: int | None
    """None for local shards, and for remote ones how many bytes of them may stay mapped at once."""
    tokenizer: TokenizerInfo | None = None
    vocab_size: int | None = None
    """Of a tokenizer that is not known itself."""
    text_bytes: int | None = None
    """UTF-8 bytes of the text behind the tokens, where they are known."""
    packed_length: int | None = None
    """Of a packed set the only sequence length that its rows can be read with."""


class TokenSplit:
    """One split of one source, ready for reading; safe to use from several threads."""

    def __init__(
        self,
        name: str,
        shards: Sequence[Shard],
        *,
        fingerprint: str,
        sequence_length: int,
        remote_bytes: int | None = None,
        tokenizer: TokenizerInfo | None = None,
        vocab_size: int | None = None,
        text_bytes: int | None = None,
        packed: bool = False,
    ) -> None:
        """`name` is what messages call the split; raises UserError where the shards hold less than one sample.

        `vocab_size` is that of a tokenizer that is not known itself. The samples of a `packed` split do not overlap.
        `remote_bytes` is None for local shards, and for remote ones how many bytes of them may stay mapped at once.
        """
        self.name, self.fingerprint, self.tokenizer = name, fingerprint, tokenizer
        self.vocab_size = tokenizer.vocab_size if tokenizer else vocab_size
        """Size of the tokenizer's vocabulary, where it is known."""
        self.sequence_length = sequence_length
        self.remote = remote_bytes is not None
        self._max_mapped_bytes = remote_bytes or 0
        self.num_tokens = sum(shard.tokens for shard in shards)
        self.packed = packed
        """Whether samples are rows with marks (`trainer.data.marks`)."""
        self._stride = sequence_length + 1 if packed else sequence_length
        self.num_samples = max(0, (self.num_tokens - sequence_length - 1) // self._stride + 1)
        self.bytes_per_token = text_bytes / self.num_tokens if text_bytes and self.num_tokens else None
        if not self.num_samples:
            raise UserError(
                f"{name} holds {self.num_tokens} tokens",
                expected=f"at least one sample: sequence_length + 1 = {sequence_length + 1} tokens",
                fix="give more data or set a smaller sequence_length",
            )
        self._shards = tuple(shards)
        self._ends = list(accumulate(shard.tokens for shard in shards))
        # Once per split: of ten thousand shards it takes milliseconds, and every seek asks for them.
        first = -(-np.asarray([0, *self._ends], dtype=np.int64) // self._stride)
        self.shard_samples: Int64 = np.diff(np.minimum(first, self.num_samples))
        """Samples that start in each shard [S]."""
        self.shard_bytes: Int64 = np.asarray([shard.token_bytes for shard in shards], dtype=np.int64)
        """Bytes of tokens in each shard [S]."""
        self._mapped: OrderedDict[int, MappedShard] = OrderedDict()
        self._lock = threading.Lock()
        self._ahead: ThreadPoolExecutor | None = None
        self._fetching: dict[int, Future[None]] = {}
        self._keeps_heads = self.remote and not packed
        self._heads: dict[int, Tokens] = {}

    def read(self, sample_ids: Int64, out: npt.NDArray[Any]) -> None:
        """Fill row r of `out` [n, T+1] with the tokens of sample_ids[r] [n]."""
        for row, sample in enumerate(sample_ids.tolist()):
            self._copy_to(sample * self._stride, out[row])

    def prefetch(self, shards: Sequence[int]) -> None:
        """Bring remote shards into the cache in the background, in this order, each with the head of the following one.

        What was asked before is dropped.
        """
        if not self.remote:
            return
        if self._ahead is None:
            self._ahead = ThreadPoolExecutor(1, thread_name_prefix="shard-ahead")
        last = len(self._shards) - 1
        with self._lock:
            crossed = shards if self._keeps_heads else ()
            heads = {min(n + 1, last) for n in crossed} - self._heads.keys() - set(shards)
            ordered = dict.fromkeys(n for shard in shards for n in (shard, shard + 1) if n == shard or n in heads)
            for number in [n for n, future in self._fetching.items() if n not in ordered and future.cancel()]:
                del self._fetching[number]
            # A mapped shard takes disk space also after the cache dropped its name, so let go of those that are done.
            for number in [n for n in self._mapped if n not in shards]:
                del self._mapped[number]
            for number in [n for n in ordered if n not in self._mapped and n not in self._fetching]:
                fetch = self._map if number in heads else self._open
                self._fetching[number] = self._ahead.submit(self._fetch_ahead, number, fetch)

    def close(self) -> None:
        """Stop reading ahead and forget the mapped shards."""
        if self._ahead is not None:
            self._ahead.shutdown(wait=True, cancel_futures=True)
            self._ahead = None
        self._mapped.clear()

    def _copy_to(self, start: int, out: npt.NDArray[Any]) -> None:
        number = bisect.bisect_right(self._ends, start)
        filled = 0
        while filled < len(out):
            shard_start = self._ends[number] - self._shards[number].tokens
            take = min(self._ends[number] - start - filled, len(out) - filled)
            if filled and self._keeps_heads:
                out[filled : filled + take] = self._head(number)[:take]
            elif take:
                self._open(number).copy_to(start + filled - shard_start, out[filled : filled + take])
            filled += take
            number += 1

    def _open(self, number: int) -> MappedShard:
        with self._lock:
            mapped = self._mapped.get(number)
            if mapped is not None:
                self._mapped.move_to_end(number)
                return mapped
        # Outside the lock: a download must not stop the readers of other shards.
        mapped = self._map(number)
        with self._lock:
            mapped = self._mapped.setdefault(number, mapped)
            while len(self._mapped) > 1 and self._is_over_bounds():
                self._mapped.popitem(last=False)
        return mapped

    def _map(self, number: int) -> MappedShard:
        mapped = self._shards[number].open()
        if self._keeps_heads and number not in self._heads:
            self._heads[number] = mapped.head(self.sequence_length)
        return mapped

    def _head(self, number: int) -> Tokens:
        # Not kept mapped where it was not fetched ahead in time: its disk space is not among what the cache counts on.
        if number not in self._heads:
            self._map(number)
        return self._heads[number]

    def _is_over_bounds(self) -> bool:
        if len(self._mapped) > MAX_OPEN_SHARDS:
            return True
        mapped_bytes = sum(self._shards[number].token_bytes for number in self._mapped)
        return self.remote and mapped_bytes > self._max_mapped_bytes

    def _fetch_ahead(self, number: int, fetch: Callable[[int], MappedShard]) -> None:
        try:
            fetch(number)
        finally:
            # An error is not lost: the reader that needs this shard meets it again.
            with self._lock:
                self._fetching.pop(number, None)
