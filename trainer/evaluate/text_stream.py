"""Text out of tokens as they come: whole characters only, and nothing that may turn out to be a stop string.

Pure. Called by generation, one stream per text.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

# Some tokenizers write a token differently at the beginning of a text: decoding starts this many tokens before.
_CONTEXT_TOKENS = 4
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """What goes on from `prompt`, in pieces that join to the whole text.

    The text ends before the first of the strings in `stop`, which may lie across tokens.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        # Tokens whose text is out, as far as the next ones need them, and those whose text is not.
        self._done = list(prompt[-_CONTEXT_TOKENS:])
        self._waiting: list[int] = []
        self._held = ""
        self.stopped = False
        """Whether a stop string was found: what comes after it is left out."""

    def add(self, token: int) -> str:
        """The text that is certain once this token is known; often nothing."""
        self._waiting.append(token)
        text = self._decode_waiting()
        # A character of several bytes may still be incomplete.
        if not text or text.endswith(_INCOMPLETE):
            return ""
        self._done, self._waiting = [*self._done, *self._waiting][-_CONTEXT_TOKENS:], []
        return self._release(text)

    def finish(self) -> str:
        """What was held back, when no token follows."""
        text = self._release(self._decode_waiting()) + self._held
        self._held, self._waiting = "", []
        return text

    def _decode_waiting(self) -> str:
        before = self._decode(self._done)
        return self._decode(self._done + self._waiting)[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids))

    def _release(self, text: str) -> str:
        """Of what is held and `text`: what stands before a stop string, or cannot be the beginning of one."""
        if self.stopped:
            return ""
        text = self._held + text
        # The one that ends first, as if characters came one by one: how they are cut into tokens makes no difference.
        found = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        kept = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
