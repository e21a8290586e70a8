"""Text to ids with the fastest engine whose ids are known to be those of `tokenizers`.

Called by preparation, in any process. gigatoken (the extra `fast`) is taken where the tokenizer has a form that is
compared, both engines agree on trial texts on this machine, and as long as they agree on what is sampled from every
batch; `tokenizers` in all other cases. docs/decisions/encoding-engine.md has the figures.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trainer.data.shards import token_dtype
from trainer.data.tokenizer import vocabulary_size
from trainer.data.tokenizers.parity import compare, for_gigatoken, unsupported
from trainer.errors import UserError

logger = logging.getLogger(__name__)

Engine = Literal["auto", "tokenizers", "gigatoken"]
Ids = NDArray[np.uint16] | NDArray[np.uint32]

# The tests compare this version; another may split words in another way.
GIGATOKEN_VERSION = "0.10.0"
# gigatoken remembers every word it has seen, up to some 20 bytes per token of output: it is made anew after so many.
TOKENS_OF_ONE_ENGINE = 50_000_000
# One character in so many is encoded by both engines, in one run per batch.
SAMPLE_SHARE = 1000
SMALLEST_SAMPLE = 64
# Characters of a text that are looked at together.
PIECE_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Choice:
    """An engine and why it was taken."""

    engine: Literal["tokenizers", "gigatoken"]
    reason: str
    unlike: str = field(default="", repr=False)
    """Characters that gigatoken classes differently: texts with one of them are left to `tokenizers`."""
    machine: str = field(default_factory=platform.node)
    """Where that was found."""


class Encoder:
    """Encodes documents without special tokens; text that spells one stays text.

    Can be sent to other processes, and so can its `choice`, which spares them the trial; on another machine it is
    made again. gigatoken works in the calling thread, `tokenizers` in threads of its own, unless
    TOKENIZERS_PARALLELISM is false or the process was forked.
    """

    def __init__(self, tokenizer: Tokenizer, engine: Engine | Choice = "auto") -> None:
        """UserError where `engine` names gigatoken and it is not installed or cannot be trusted with this tokenizer."""
        self._slow = _Tokenizers(tokenizer.to_str())
        if not isinstance(engine, Choice):
            self.choice = choose_engine(self._slow.tokenizer, engine)
        elif engine.engine == "tokenizers" or engine.machine == platform.node():
            self.choice = engine
        else:
            self.choice = choose_engine(self._slow.tokenizer, "auto")
        self._fast = _Gigatoken(self._slow, self.choice.unlike) if self.choice.engine == "gigatoken" else None

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, in the narrowest type that holds the vocabulary."""
        return self._slow.encode(texts) if self._fast is None else self._fast.encode(texts)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, not to be changed."""
        return self._slow.tokenizer

    def __reduce__(self) -> tuple[type[Encoder], tuple[Tokenizer, Choice]]:
        return Encoder, (self._slow.tokenizer, self.choice)


class _Tokenizers:
    """The engine that is always right."""

    def __init__(self, tokenizer_json: str) -> None:
        self.json = tokenizer_json
        # A copy, as it is changed.
        self.tokenizer = Tokenizer.from_str(tokenizer_json)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.encode_special_tokens = True
        self.dtype = np.dtype(token_dtype(vocabulary_size(self.tokenizer)))

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False) if texts else []
        return [np.fromiter(encoding.ids, dtype=self.dtype, count=len(encoding)) for encoding in encodings]


class _Gigatoken:
    """The fast engine, watched by the right one."""

    def __init__(self, slow: _Tokenizers, unlike: str) -> None:
        self._slow = slow
        self._json = for_gigatoken(json.loads(slow.json))
        self._encode = _load_gigatoken(self._json)
        self._unlike = np.zeros(0x110000, dtype=bool)
        self._unlike[[ord(character) for character in unlike]] = True
        self._first_unlike = min(map(ord, unlike), default=0x110000)
        self._tokens = 0
        self._batches = 0

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        if self._tokens > TOKENS_OF_ONE_ENGINE:
            self._encode = _load_gigatoken(self._json)
            self._tokens = 0
        # Looking at all texts at once is quicker, and mostly enough.
        left = [i for i, text in enumerate(texts) if self._has_unlike(text)] if self._has_unlike("".join(texts)) else []
        taken = dict(zip(left, self._slow.encode([texts[i] for i in left]), strict=True))
        batch = [taken[i] if i in taken else self._ids(text) for i, text in enumerate(texts)]
        self._tokens += sum(map(len, batch))
        if batch:
            self._compare_one(texts, batch)
        return batch

    def _ids(self, text: str) -> Ids:
        return self._encode(text).astype(self._slow.dtype)

    def _has_unlike(self, text: str) -> bool:
        if text.isascii():
            return False
        pieces = (text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS))
        for piece in pieces:
            codes = np.frombuffer(piece.encode("utf-32-le"), np.uint32)
            # Most characters of most texts come before any of them, which is quicker to see than what each one is.
            if self._unlike[codes[codes >= self._first_unlike]].any():
                return True
        return False

    def _compare_one(self, texts: Sequence[str], batch: Sequence[Ids]) -> None:
        """Encode a document, or a piece of a long one, with `tokenizers` too. UserError where the ids differ."""
        # Steps of large primes visit all places.
        number = self._batches * 7919 % len(texts)
        size = max(SMALLEST_SAMPLE, sum(map(len, texts)) // SAMPLE_SHARE)
        start = self._batches * 104_729 % max(1, len(texts[number]) - size)
        self._batches += 1
        text = texts[number][start : start + size]
        if self._has_unlike(text):
            return
        fast = batch[number] if len(text) == len(texts[number]) else self._ids(text)
        if not np.array_equal(fast, self._slow.encode([text])[0]):
            raise UserError(
                f"gigatoken {GIGATOKEN_VERSION} and tokenizers differ on {text[:200]!r}",
                expected="the same ids from both",
                fix="prepare the data again with the engine `tokenizers`, and report the text",
            )


def choose_engine(tokenizer: Tokenizer, engine: Engine) -> Choice:
    """The engine to use on this machine; takes a few seconds. `auto` never fails.

    Raises UserError where gigatoken is named and cannot be used.
    """
    if engine == "tokenizers":
        return Choice("tokenizers", "asked for")
    against, unlike = _against_gigatoken(tokenizer)
    if against is None:
        return Choice("gigatoken", f"{GIGATOKEN_VERSION} gives the same ids", unlike)
    if engine == "gigatoken":
        raise UserError(
            f"gigatoken cannot be used: {against}",
            expected=f"gigatoken {GIGATOKEN_VERSION} and a tokenizer on which it gives the ids of `tokenizers`",
            fix="use the engine `auto` or `tokenizers`, or pip install 'gpt-run[fast]'",
        )
    logger.info("encoding with tokenizers, not gigatoken: %s", against)
    return Choice("tokenizers", against)


def _against_gigatoken(tokenizer: Tokenizer) -> tuple[str | None, str]:
    """What speaks against gigatoken, None for nothing, and the characters that it classes differently."""
    try:
        version = importlib.metadata.version("gigatoken")
    except importlib.metadata.PackageNotFoundError:
        return "gigatoken is not installed", ""
    if version != GIGATOKEN_VERSION:
        return f"gigatoken {version} is installed, {GIGATOKEN_VERSION} is compared", ""
    slow = _Tokenizers(tokenizer.to_str())
    against = unsupported(json.loads(slow.json))
    if against is not None:
        return against, ""
    try:
        compared = compare(slow.tokenizer, _load_gigatoken)
    except (RuntimeError, ValueError) as error:
        return f"gigatoken refuses it: {str(error).splitlines()[0]}", ""
    if compared.difference is not None:
        return f"it differs from tokenizers on {compared.difference}", ""
    return None, compared.unlike


def _load_gigatoken(tokenizer_json: str) -> Callable[[str], NDArray[np.uint32]]:
    # The backend itself: the package around it takes a second to import and starts threads that do not survive a fork.
    from gigatoken.gigatoken_rs import load_hf_json

    encode: Callable[[str], NDArray[np.uint32]] = load_hf_json(tokenizer_json).encode
    return encode
