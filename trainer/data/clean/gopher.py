"""Rules of the Gopher paper: quality of a document's words and lines, and repetition inside a document.

Source: Rae et al. 2021, Scaling Language Models: Methods, Analysis & Insights from Training Gopher
(https://arxiv.org/abs/2112.11446), section A1.1 and table A1. Words are what white space separates; datatrove counts
punctuation marks as words of their own (docs/decisions/quality-words.md). Thresholds are settings, null switches a rule
off, and the first rule that is broken names the drop. Used as steps of a pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import filterfalse
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from trainer.data.clean.base import Drop, Step

_BULLETS = ("•", "-")
_ELLIPSES = ("...", "…")
_SPREAD = np.uint64(0x9E3779B97F4A7C15)

Share = Annotated[float, Field(ge=0, le=1)]
# A document's hashes of its runs are computed for every length up to the longest.
RunWords = Annotated[int, Field(ge=1, le=100)]
Hashes = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]


class GopherQuality(Step):
    """Rules on words and lines (section A1.1, "Quality Filtering")."""

    type: Literal["gopher-quality"]
    min_words: int | None = Field(default=50, ge=0)
    """Fewest words that are not mere symbols."""
    max_words: int | None = Field(default=100_000, ge=1)
    """Most words that are not mere symbols."""
    min_mean_word_length: float | None = Field(default=3, ge=0)
    """Smallest mean length of these words, in characters."""
    max_mean_word_length: float | None = Field(default=10, gt=0)
    """Largest mean length of these words, in characters."""
    max_hash_ratio: float | None = Field(default=0.1, ge=0)
    """Most hash signs per word."""
    max_ellipsis_ratio: float | None = Field(default=0.1, ge=0)
    """Most ellipses per word."""
    max_bullet_line_share: Share | None = 0.9
    """Largest share of lines that begin with a bullet."""
    max_ellipsis_line_share: Share | None = 0.3
    """Largest share of lines that end with an ellipsis."""
    min_alphabetic_word_share: Share | None = 0.8
    """Smallest share of words with a letter."""
    min_stop_words: int | None = Field(default=2, ge=0)
    """Fewest different stop words."""
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    """The stop words, as they are written in a text; give others for another language."""

    def rules(self) -> tuple[str, ...]:
        """Names of the rules that can drop a document, in the order in which they are tried."""
        return tuple(_rule(self.type, name) for name in self._thresholds())

    def apply(self, text: str) -> str | Drop:
        """The text as it is, or the first rule it breaks."""
        measured = self._measure(text)
        for name, limit in self._thresholds().items():
            if measured[name] > limit if name.startswith("max_") else measured[name] < limit:
                return Drop(_rule(self.type, name))
        return text

    def _thresholds(self) -> dict[str, float]:
        names = [name for name in type(self).model_fields if name.startswith(("min_", "max_"))]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _measure(self, text: str) -> dict[str, float]:
        words, lines = text.split(), text.splitlines()
        num_words, num_lines = max(len(words), 1), max(len(lines), 1)
        # Most words are nothing but letters, which is quick to see.
        others = list(filterfalse(str.isalpha, words))
        symbols = [word for word in others if not any(map(str.isalnum, word))]
        real_words = len(words) - len(symbols)
        mean_length = (sum(map(len, words)) - sum(map(len, symbols))) / max(real_words, 1)
        without_letter = sum(not any(map(str.isalpha, word)) for word in others)
        return {
            "min_words": real_words,
            "max_words": real_words,
            "min_mean_word_length": mean_length,
            "max_mean_word_length": mean_length,
            "max_hash_ratio": text.count("#") / num_words,
            "max_ellipsis_ratio": sum(text.count(ellipsis) for ellipsis in _ELLIPSES) / num_words,
            "max_bullet_line_share": sum(line.lstrip().startswith(_BULLETS) for line in lines) / num_lines,
            "max_ellipsis_line_share": sum(line.rstrip().endswith(_ELLIPSES) for line in lines) / num_lines,
            "min_alphabetic_word_share": (len(words) - without_letter) / num_words,
            "min_stop_words": len(set(self.stop_words).intersection(words)),
        }


class GopherRepetition(Step):
    """Rules on repeated lines, paragraphs and runs of words (section A1.1, "Repetition Removal", and table A1).

    Shares of characters are of all characters of the text. A paragraph ends with an empty line. A repetition is every
    occurrence but the first.
    """

    type: Literal["gopher-repetition"]
    max_paragraph_share: Share | None = 0.3
    """Largest share of paragraphs that repeat an earlier one."""
    max_paragraph_character_share: Share | None = 0.2
    """Largest share of characters in such paragraphs."""
    max_line_share: Share | None = 0.3
    """Largest share of lines that repeat an earlier one."""
    max_line_character_share: Share | None = 0.2
    """Largest share of characters in such lines."""
    max_top_ngram_share: dict[RunWords, Share] = Field(default={2: 0.20, 3: 0.18, 4: 0.16})
    """By number of words: largest share of characters in the most frequent run of so many words."""
    max_repeated_ngram_share: dict[RunWords, Share] = Field(
        default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    )
    """By number of words: largest share of characters in runs of so many words that repeat an earlier one, each
    character counted once."""

    def rules(self) -> tuple[str, ...]:
        """Names of the rules that can drop a document, in the order in which they are tried."""
        units = [f"max_{unit}" for unit in _UNITS if getattr(self, f"max_{unit}") is not None]
        tops = [f"max_top_{n}_gram_share" for n in sorted(self.max_top_ngram_share)]
        repeated = [f"max_repeated_{n}_gram_share" for n in sorted(self.max_repeated_ngram_share)]
        return tuple(_rule(self.type, name) for name in (*units, *tops, *repeated))

    def apply(self, text: str) -> str | Drop:
        """The text as it is, or the first rule it breaks."""
        broken = self._broken_unit_rule(text) or self._broken_ngram_rule(text)
        return Drop(_rule(self.type, broken)) if broken else text

    def _broken_unit_rule(self, text: str) -> str | None:
        paragraphs = _repeated_shares([part.strip("\n") for part in text.strip().split("\n\n")], len(text))
        lines = _repeated_shares(text.split("\n"), len(text))
        for unit, share in zip(_UNITS, (*paragraphs, *lines), strict=True):
            limit = getattr(self, f"max_{unit}")
            if limit is not None and share > limit:
                return f"max_{unit}"
        return None

    def _broken_ngram_rule(self, text: str) -> str | None:
        words = text.split()
        # Python's own hash: differs between processes, but only equality of words matters here.
        hashes = np.fromiter(map(hash, words), dtype=np.int64, count=len(words)).astype(np.uint64)
        ends = np.cumsum(np.fromiter(map(len, ["", *words]), dtype=np.int64, count=len(words) + 1))
        ngrams = _ngrams(hashes, max((0, *self.max_top_ngram_share, *self.max_repeated_ngram_share)))
        occurrences = len(words)
        for n, limit in sorted(self.max_top_ngram_share.items()):
            # A run occurs no more often than the most frequent shorter one, and that is enough for most documents.
            if occurrences * _longest(ends, n) <= limit * len(text):
                continue
            characters, occurrences = _top_ngram(ngrams[n], ends, n)
            if characters * occurrences > limit * len(text):
                return f"max_top_{n}_gram_share"
        for n, limit in sorted(self.max_repeated_ngram_share.items()):
            places = _repeated_places(ngrams[n])
            if not len(places):
                # Nor does a longer run occur twice.
                break
            if _repeats_more(ngrams[n], places, ends, n, limit * len(text)):
                return f"max_repeated_{n}_gram_share"
        return None


_UNITS = ("paragraph_share", "paragraph_character_share", "line_share", "line_character_share")


def _rule(step: str, name: str) -> str:
    return f"{step}.{name.replace('_', '-')}"


def _repeated_shares(parts: Sequence[str], num_characters: int) -> tuple[float, float]:
    """Share of the parts that repeat an earlier one, empty ones left out, and their characters as a share of all."""
    parts = [part for part in parts if part]
    repeated = len(parts) - len(first := set(parts))
    characters = sum(map(len, parts)) - sum(map(len, first))
    return repeated / max(len(parts), 1), characters / max(num_characters, 1)


def _ngrams(hashes: Hashes, longest: int) -> list[Hashes]:
    """For each n up to `longest`, a hash of each run of n words."""
    ngrams = [np.zeros(len(hashes) + 1, dtype=np.uint64)]
    for n in range(1, longest + 1):
        ngrams.append(ngrams[-1][:-1] * _SPREAD + hashes[n - 1 :])
    return ngrams


def _characters(ends: Counts, starts: Counts, n: int) -> Counts:
    """Characters of the n words from each of `starts` on, without the spaces between them; `ends` begins with a 0."""
    characters: Counts = ends[starts + n] - ends[starts]
    return characters


def _longest(ends: Counts, n: int) -> int:
    """Length of the longest run of n words, spaces included."""
    return int((ends[n:] - ends[:-n]).max(initial=0)) + n - 1


def _top_ngram(ngrams: Hashes, ends: Counts, n: int) -> tuple[int, int]:
    """Length of the most frequent run of n words, the first of equals, spaces included; and its occurrences."""
    if not len(ngrams):
        return 0, 0
    ordered = np.sort(ngrams)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(starts, append=len(ordered))
    most = counts.max()
    first = _places(ngrams, ordered[starts[counts == most]])[:1] if most > 1 else np.zeros(1, dtype=np.int64)
    return int(_characters(ends, first, n)[0]) + n - 1, int(most)


def _repeated_places(ngrams: Hashes) -> Counts:
    """Places of the runs that occur more than once."""
    ordered = np.sort(ngrams)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    return _places(ngrams, repeated) if len(repeated) else np.empty(0, dtype=np.int64)


def _places(ngrams: Hashes, wanted: Hashes) -> Counts:
    """Where one of the sorted `wanted` stands, of which there is at least one."""
    return np.flatnonzero(wanted[np.minimum(np.searchsorted(wanted, ngrams), len(wanted) - 1)] == ngrams)


def _repeats_more(ngrams: Hashes, places: Counts, ends: Counts, n: int, limit: float) -> bool:
    """Whether runs of n words that occurred before hold more than `limit` characters, going from left to right.

    `places` are those of runs that occur more than once. One that is counted is skipped as a whole, so that no
    character counts twice.
    """
    # What lies in any of these runs bounds the count, and is enough for most documents.
    changes = np.bincount(places, minlength=len(ends)) - np.bincount(places + n, minlength=len(ends))
    if np.diff(ends)[np.cumsum(changes)[:-1] > 0].sum() <= limit:
        return False
    seen: set[int] = set()
    total = beyond = 0
    sizes = _characters(ends, places, n).tolist()
    for place, name, size in zip(places.tolist(), ngrams[places].tolist(), sizes, strict=True):
        if place < beyond:
            continue
        if name in seen:
            total += size
            beyond = place + n
        seen.add(name)
    return total > limit
