"""Loss by parameters and tokens, as published fits foretell it, and the tokens that suit a model.

Pure; called by `trainer.plan.plan` and `trainer.plan.contradictions`. The fits were made on other text and tokenizers
than a run's, so their losses are a guide: two fits that disagree show how good a guide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fit:
    """L(N, D) = E + A / N^alpha + B / D^beta, nats per token; N all parameters, D training tokens."""

    name: str
    source: str
    irreducible: float
    a: float
    b: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Foretold loss of a model of so many parameters after so many different tokens."""
        return float(self.irreducible + self.a / parameters**self.alpha + self.b / tokens**self.beta)

    def optimal_tokens(self, parameters: float) -> float:
        """Tokens for which this size of model is the best use of its compute, 6ND.

        Along constant N D the loss is least where alpha A / N^alpha = beta B / D^beta.
        """
        return float((self.beta * self.b / (self.alpha * self.a) * parameters**self.alpha) ** (1 / self.beta))

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens with the least loss among those with 6ND = flops (Hoffmann et al. 2022, equation 4)."""
        product = flops / 6
        ratio = (self.alpha * self.a / (self.beta * self.b)) ** (1 / (self.alpha + self.beta))
        parameters = ratio * product ** (self.beta / (self.alpha + self.beta))
        return parameters, product / parameters


FITS: tuple[Fit, ...] = (
    Fit("Chinchilla", "Hoffmann et al. 2022, arXiv:2203.15556, equation 10", *(1.69, 406.4, 410.7, 0.34, 0.28)),
    Fit(
        "Chinchilla refitted",
        "Besiroglu et al. 2024, arXiv:2404.10102, table 1",
        *(1.8172, 482.01, 2085.43, 0.3478, 0.3658),
    ),
    Fit(
        "data-constrained",
        "Muennighoff et al. 2023, arXiv:2305.16264, appendix A",
        *(1.8692, 521.0, 1487.9, 0.3527, 0.3527),
    ),
)
_REPEATS_HALF_LIFE = 15.387756
"""R* of the data-constrained law: after so many repetitions more of the same text is worth little."""


def effective_tokens(tokens: float, unique_tokens: float) -> float:
    """What `tokens` from a set of `unique_tokens` are worth in different ones (Muennighoff et al. 2023, equation 5).

    U + U R* (1 - exp(-R / R*)), where R is the number of epochs after the first.
    """
    if tokens <= unique_tokens:
        return tokens
    repeats = tokens / unique_tokens - 1
    return unique_tokens * (1 + _REPEATS_HALF_LIFE * -math.expm1(-repeats / _REPEATS_HALF_LIFE))


def loss_range(
    parameters: float, tokens: float, unique_tokens: float | None, fits: Sequence[Fit] = FITS
) -> tuple[float, float]:
    """Lowest and highest loss that the fits foretell, repeated text at its worth."""
    worth = effective_tokens(tokens, unique_tokens) if unique_tokens else tokens
    losses = [fit.loss(parameters, worth) for fit in fits]
    return min(losses), max(losses)


def optimal_tokens_range(parameters: float, fits: Sequence[Fit] = FITS) -> tuple[float, float]:
    """Fewest and most compute-optimal tokens by the fits."""
    tokens = [fit.optimal_tokens(parameters) for fit in fits]
    return min(tokens), max(tokens)
