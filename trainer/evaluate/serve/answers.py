"""Answers in the form of OpenAI's API: whole, and as the chunks of a stream. Pure."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Literal

from trainer.evaluate.generate import Finish, Piece


class Answer:
    """The answer to one request, put together from the pieces of its texts."""

    def __init__(self, kind: Literal["completion", "chat"], model: str, prompts: Sequence[Sequence[int]]) -> None:
        """`prompts` are those of the choices: one for each text."""
        self._chat = kind == "chat"
        self._head = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }
        self._prompt_tokens = sum(map(len, prompts))
        self._completion_tokens = 0
        self._texts = [""] * len(prompts)
        self._finishes: list[Finish | None] = [None] * len(prompts)

    def add(self, piece: Piece) -> dict[str, Any] | None:
        """Take in a piece; returns the chunk that tells of it, if there is anything to tell."""
        self._completion_tokens += 1
        self._texts[piece.row] += piece.text
        self._finishes[piece.row] = piece.finish
        if not piece.text and piece.finish is None:
            return None
        text = {"delta": {"content": piece.text} if piece.text else {}} if self._chat else {"text": piece.text}
        return self._chunk([self._choice(piece.row, text, piece.finish)])

    def first_chunks(self) -> list[dict[str, Any]]:
        """What a stream begins with: in a chat, who speaks."""
        if not self._chat:
            return []
        role = {"delta": {"role": "assistant", "content": ""}}
        return [self._chunk([self._choice(row, role, None)]) for row in range(len(self._texts))]

    def usage_chunk(self) -> dict[str, Any]:
        """What a stream ends with, where the client wants to know."""
        return self._chunk([]) | {"usage": self._usage()}

    def whole(self) -> dict[str, Any]:
        """The answer at once."""
        choices = []
        for row, text in enumerate(self._texts):
            content = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
            choices.append(self._choice(row, content, self._finishes[row]))
        kind = "chat.completion" if self._chat else "text_completion"
        return self._head | {"object": kind, "choices": choices, "usage": self._usage()}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return self._head | {"object": kind, "choices": choices}

    def _choice(self, row: int, content: dict[str, Any], finish: Finish | None) -> dict[str, Any]:
        return {"index": row, **content, "logprobs": None, "finish_reason": finish}

    def _usage(self) -> dict[str, int]:
        made = self._completion_tokens
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": made,
            "total_tokens": self._prompt_tokens + made,
        }
