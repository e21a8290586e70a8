"""How the next token is chosen from logits: greedily, or drawn by temperature, top-k, top-p and repetition penalty.

Called by generation and by samples during training. The order and the formulas are those of the logits processors of
Hugging Face Transformers (`generation/logits_process.py`), with which a test compares.

Shapes: B batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.errors import UserError

# More than a text needs; each costs a search per token.
MAX_STOPS = 16
# Differences of fp32 logits divided by less are so large that only equal logits would still be drawn from, and by much
# less they would be infinite.
GREEDY_BELOW = 1e-9
# Beyond these a penalised logit would be infinite at last, and its probability no number.
SMALLEST_PENALTY, LARGEST_PENALTY = 1e-6, 1e6


@dataclass(frozen=True)
class Sampling:
    """How a text is made. UserError for values that have no meaning, by the names of the fields."""

    max_tokens: int | None = None
    """Tokens to make at most; None for 100, or what the model's context leaves."""
    temperature: float = 0.8
    """Divides the logits; 0, and what is below 1e-9, takes the most likely token each time."""
    top_k: int = 50
    """Draw from the K most likely tokens only; 0 for all."""
    top_p: float = 1.0
    """Draw from the fewest most likely tokens only whose probabilities sum up to this (Holtzman et al. 2020)."""
    repetition_penalty: float = 1.0
    """Positive logits of tokens that were there before, in prompt or text, are divided by this, others multiplied
    (Keskar et al. 2019, section 4.1)."""
    stop: tuple[str, ...] = ()
    """Strings before which the text ends."""
    seed: int = 1
    """Of the draws."""

    def __post_init__(self) -> None:
        _require(self.max_tokens is None or self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        _require(0 <= self.temperature < float("inf"), "temperature", self.temperature, "0 (greedy) or a number above")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (all tokens) or a number above")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1 (all tokens)")
        _require(
            SMALLEST_PENALTY <= self.repetition_penalty <= LARGEST_PENALTY,
            "repetition_penalty",
            self.repetition_penalty,
            f"from {SMALLEST_PENALTY:g} to {LARGEST_PENALTY:g}; 1 is none, 1.2 a usual one",
        )
        _require("" not in self.stop, "stop", "an empty string", "strings of at least one character")
        _require(len(self.stop) <= MAX_STOPS, "stop", f"{len(self.stop)} strings", f"at most {MAX_STOPS}")
        _require(-(2**63) <= self.seed < 2**63, "seed", self.seed, "a whole number of 64 bits")


def choose(
    logits_BV: Tensor, sampling: Sampling, generators: Sequence[torch.Generator], seen_BV: Tensor | None = None
) -> Tensor:
    """One token id [B] for each row of fp32 logits, row b's drawn with generator b.

    `seen_BV` is true for the tokens that a row has had; read with a repetition penalty alone.
    """
    if sampling.repetition_penalty != 1:
        assert seen_BV is not None
        logits_BV = penalise(logits_BV, seen_BV, sampling.repetition_penalty)
    if sampling.temperature < GREEDY_BELOW:
        return logits_BV.argmax(dim=-1)
    weights_BV = torch.softmax(restrict(logits_BV / sampling.temperature, sampling.top_k, sampling.top_p), dim=-1)
    # Row by row, so that a row's text does not depend on the others'.
    drawn = [torch.multinomial(row_V, 1, generator=own) for row_V, own in zip(weights_BV, generators, strict=True)]
    return torch.cat(drawn)


def penalise(logits_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """Make what was there before less likely: x / penalty where x > 0, x * penalty where not."""
    return torch.where(seen_BV, torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty), logits_BV)


def restrict(logits_BV: Tensor, top_k: int, top_p: float) -> Tensor:
    """-inf for all but the `top_k` largest logits (0: all), then for all but the nucleus of mass `top_p` of those.

    Tokens as likely as the last of the top k stay, and so does the most likely token whatever `top_p` is.
    """
    nothing = float("-inf")
    if 0 < top_k < logits_BV.shape[-1]:
        threshold_B1 = torch.topk(logits_BV, top_k, dim=-1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < threshold_B1, nothing)
    if top_p < 1:
        sorted_BV, order_BV = logits_BV.sort(dim=-1)
        # From the least likely on, what together stays within the mass that is to go.
        removed_BV = torch.softmax(sorted_BV, dim=-1).cumsum(dim=-1) <= 1 - top_p
        removed_BV[:, -1] = False
        logits_BV = logits_BV.masked_fill(removed_BV.scatter(1, order_BV, removed_BV), nothing)
    return logits_BV


def _require(holds: bool, name: str, found: object, expected: str) -> None:
    if not holds:
        raise UserError(f"{name}: found {found}", expected=expected, fix=f"correct {name}")
