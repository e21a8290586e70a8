"""Drop documents that contain evaluation texts: runs of words that they share.

Source: Brown et al. 2020, Language Models are Few-Shot Learners, appendix C, with its 13 words; there the run is cut
out of the document, here the document goes. Words are compared without case and punctuation (`shingles`). Used as the
last step of a pipeline.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import Field

from trainer.data.clean.base import Drop, Step
from trainer.data.clean.shingles import MAX_CHARACTERS, Hashes, shingles
from trainer.data.remote import locate
from trainer.errors import UserError

logger = logging.getLogger(__name__)

# What pieces of a long text share: more than the longest run that is looked for has.
_OVERLAP = 100_000


class Decontaminate(Step):
    """Drop documents that share runs of words with evaluation texts."""

    type: Literal["decontaminate"]
    evaluations: tuple[str, ...] = Field(min_length=1)
    """Files with evaluation texts, path or URL: every string value of a .json or .jsonl file is a text, any other file
    is one text; each may end in .gz."""
    ngram_words: int = Field(default=13, ge=1, le=100)
    """Words of a run. Evaluation texts that are shorter take no part."""
    max_share: float = Field(default=0.0, ge=0, lt=1)
    """Largest share of a document's runs that evaluation texts may have; 0 drops a document for a single one."""

    def rules(self) -> tuple[str, ...]:
        """Names of the rules that can drop a document."""
        return ("decontaminate.evaluation-text",)

    def apply(self, text: str) -> str | Drop:
        """The text as it is where it shares little enough. Raises UserError for unusable evaluation files."""
        index = _index(self.evaluations, self.ngram_words)
        runs, _ = shingles(_pieces(text), self.ngram_words)
        if not len(runs):
            return text
        found = index[np.minimum(np.searchsorted(index, runs), len(index) - 1)] == runs
        return Drop("decontaminate.evaluation-text") if found.mean() > self.max_share else text

    def method(self) -> str:
        """The content of the evaluation files, and that long texts are looked through to their end."""
        return " ".join(["whole", *(hashlib.sha256(_read(url)).hexdigest() for url in self.evaluations)])


@lru_cache(maxsize=4)
def _index(urls: tuple[str, ...], num_words: int) -> Hashes:
    """Sorted hashes of all runs of words of the evaluation texts."""
    texts = [piece for url in urls for text in _texts(url) for piece in _pieces(text)]
    hashes, offsets = shingles(texts, num_words)
    # A shorter text has a hash too, of all its words, which must not match a document of just these words.
    long_enough = [_num_words(text) >= num_words for text in texts]
    if not any(long_enough):
        raise UserError(
            f"decontaminate: no text of {', '.join(urls)} has {num_words} words",
            expected=f"evaluation texts of at least {num_words} words",
            fix="check the files, or lower ngram_words",
        )
    if not all(long_enough):
        short = len(texts) - sum(long_enough)
        logger.warning("decontaminate: %d of %d texts have fewer than %d words", short, len(texts), num_words)
    return np.unique(hashes[np.repeat(long_enough, np.diff(offsets).astype(np.int64))])


def _pieces(text: str) -> list[str]:
    """The text, in pieces that `shingles` takes whole."""
    starts = range(0, max(len(text) - _OVERLAP, 1), MAX_CHARACTERS - _OVERLAP)
    return [text[start : start + MAX_CHARACTERS] for start in starts]


def _num_words(text: str) -> int:
    return len(shingles([text], 1)[0])


def _texts(url: str) -> Iterator[str]:
    content, name = _read(url), url.removesuffix(".gz")
    if name.endswith(".json"):
        yield from _strings(_parsed(content, url))
    elif name.endswith(".jsonl"):
        for number, line in enumerate(content.splitlines(), 1):
            if line.strip():
                yield from _strings(_parsed(line, f"{url}, line {number}"))
    else:
        try:
            yield content.decode()
        except UnicodeDecodeError as error:
            raise _unusable(url, str(error)) from error


def _parsed(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _unusable(where, str(error)) from error


def _strings(value: Any) -> Iterator[str]:
    """All strings inside a parsed JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))


def _read(url: str) -> bytes:
    try:
        content = locate(url).read()
        return gzip.decompress(content) if url.endswith(".gz") else content
    except (OSError, EOFError, zlib.error) as error:
        raise _unusable(url, f"it cannot be read ({error})") from error


def _unusable(where: str, found: str) -> UserError:
    return UserError(
        f"evaluation texts: {where}: {found}",
        expected="a text file in UTF-8, or .json or .jsonl with texts as strings, each also with .gz",
        fix="correct `evaluations`, or copy the file again",
    )
