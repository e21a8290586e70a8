"""Rules of the C4 data set: lines that are no sentences go, and pages with too little left or with signs of no prose.

Source: Raffel et al. 2020, Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer (JMLR 21,
section 2.2), in the order and with the additions of its code (tensorflow_datasets/text/c4_utils.py): over-long words,
citation marks, and lines about policies and cookies. Each rule is a setting. Used as a step of a pipeline.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from pydantic import Field

from trainer.data.clean.base import Drop, Step
from trainer.data.remote import locate
from trainer.errors import UserError

_CITATIONS = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_ENDS = (".", "?", "!", '"', "'")
# A sentence ends with marks, closing quotes or brackets, and no small letter after them: "e.g. this" goes on.
_SENTENCE_END = re.compile(r"[.?!\u2026]+[\"'\u201d\u2019)\]]*(?=\s+[^a-z\s]|\s*$)")
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


class C4(Step):
    """Keep lines that look like sentences, and pages that have enough of them."""

    type: Literal["c4"]
    citations: bool = True
    """Remove citation marks as Wikipedia writes them, such as [1] or [edit]."""
    terminal_punctuation: bool = True
    """Remove lines that do not end in a full stop, question mark, exclamation mark or quotation mark."""
    min_words_per_line: int | None = Field(default=3, ge=1)
    """Remove lines with fewer words."""
    max_word_length: int | None = Field(default=1000, ge=1)
    """Remove lines with a longer word, in characters."""
    javascript: bool = True
    """Remove lines that speak of Javascript."""
    policy: bool = True
    """Remove lines about terms of use, privacy policies and cookies."""
    lorem_ipsum: bool = True
    """Drop documents with "lorem ipsum" in a line."""
    curly_bracket: bool = True
    """Drop documents with a curly bracket in a line that the rules above leave: programs, mostly."""
    min_sentences: int | None = Field(default=5, ge=1)
    """Drop documents of which fewer sentences are left."""
    bad_words: str | None = None
    """Drop documents with any of the words or phrases of this file, one a line, path or URL. The paper's list of
    obscene words does not come with us."""

    def rules(self) -> tuple[str, ...]:
        """Names of the rules that can drop a document."""
        on = {
            "lorem-ipsum": self.lorem_ipsum,
            "curly-bracket": self.curly_bracket,
            "sentences": self.min_sentences is not None,
            "bad-words": self.bad_words is not None,
            "empty": True,
        }
        return tuple(f"c4.{name}" for name, is_on in on.items() if is_on)

    def apply(self, text: str) -> str | Drop:
        """The lines that are kept, or the rule that drops the document. Raises UserError for a bad file of words."""
        kept = []
        sentences = 0
        for line in text.splitlines():
            line = line.strip()
            words = line.split()
            if self._has_long_word(line, words):
                continue
            if self.citations and "[" in line:
                line = _CITATIONS.sub("", line)
            if self._is_no_sentence(line, len(words)):
                continue
            small = line.lower()
            if self.lorem_ipsum and "lorem ipsum" in small:
                return Drop("c4.lorem-ipsum")
            if self.javascript and "javascript" in small:
                continue
            if self.curly_bracket and "{" in line:
                return Drop("c4.curly-bracket")
            if self.policy and any(phrase in small for phrase in _POLICY):
                continue
            sentences += num_sentences(line)
            kept.append(line)
        if self.min_sentences is not None and sentences < self.min_sentences:
            return Drop("c4.sentences")
        if self.bad_words is not None and _bad_words(self.bad_words).search(text.lower()):
            return Drop("c4.bad-words")
        return "\n".join(kept).strip() or Drop("c4.empty")

    def method(self) -> str:
        """The words of the file, if there is one."""
        return _bad_words(self.bad_words).pattern if self.bad_words is not None else ""

    def _has_long_word(self, line: str, words: list[str]) -> bool:
        # Few lines are as long as a word that is too long.
        limit = self.max_word_length
        return limit is not None and len(line) > limit and any(len(word) > limit for word in words)

    def _is_no_sentence(self, line: str, num_words: int) -> bool:
        if self.terminal_punctuation and (not line.endswith(_ENDS) or line.endswith("...")):
            return True
        return self.min_words_per_line is not None and num_words < self.min_words_per_line


def num_sentences(line: str) -> int:
    """Sentences of a line, at least one: ends of sentences, and what follows the last of them."""
    ends = [match.end() for match in _SENTENCE_END.finditer(line)]
    return max(len(ends) + (bool(ends) and bool(line[ends[-1] :].strip())), 1)


@lru_cache(maxsize=4)
def _bad_words(url: str) -> re.Pattern[str]:
    try:
        lines = locate(url).read().decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_words(url, str(error)) from error
    words = sorted({line.strip().lower() for line in lines if line.strip()})
    if not words:
        raise _no_words(url, "it has no lines")
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)")


def _no_words(url: str, found: str) -> UserError:
    return UserError(
        f"bad_words: {url} cannot be used: {found}",
        expected="a UTF-8 text file with one word or phrase a line",
        fix="correct the path of the file, or leave bad_words out",
    )
