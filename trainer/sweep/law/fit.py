"""Fit L(N, D) = E + A / N^alpha + B / D^beta to points, as Hoffmann et al. 2022 do (arXiv:2203.15556, D.2), robustly.

The objective is theirs: the sum over runs of Huber(LSE(a - alpha log N, b - beta log D, e) - log L) with delta = 1e-3
and a = log A, b = log B, e = log E (equation 3 there). Two things differ, neither of which moves the minimum. For each
pair of exponents on a grid the other three coefficients are linear and follow by least squares of relative errors, so
the grid of starts has two dimensions instead of five. And N and D are centred, without which A and alpha are nearly
one coefficient. L-BFGS (torch's, with line search) goes on from the best starts.

Intervals come from fits to runs drawn with replacement, as in Besiroglu et al. 2024 (arXiv:2404.10102).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.plan.scaling_law import Fit
from trainer.sweep.law.points import FEWEST_SIZES, LawPoint

Floats = NDArray[np.float64]
_HUBER_DELTA = 1e-3
_EXPONENTS = np.geomspace(0.05, 2.0, 16)
_STARTS = 12
_RESAMPLED_STARTS = 2
_ITERATIONS = 400
# Of a term that least squares would rather have negative: e^-20 of the loss is nothing, and has a logarithm.
_SMALLEST_SHARE = math.exp(-20)
# Exponents beyond are a term that falls at once: nothing in the data tells them apart.
LARGEST_EXPONENT = 10.0


class Points:
    """Parameters, tokens and losses [n] as the objective wants them."""

    def __init__(self, parameters: Floats, tokens: Floats, losses: Floats) -> None:
        self.log_n, self.log_d, self.log_l = np.log(parameters), np.log(tokens), np.log(losses)
        self.mean_n, self.mean_d = float(self.log_n.mean()), float(self.log_d.mean())
        self.x, self.y = self.log_n - self.mean_n, self.log_d - self.mean_d

    def law(self, theta: Floats, name: str, source: str) -> Fit:
        """The law of centred coefficients (a, b, e, logits of the two exponents as shares of the largest)."""
        a, b, e = (float(value) for value in theta[:3])
        alpha, beta = (float(value) for value in _exponents(theta))
        return Fit(
            name,
            source,
            irreducible=math.exp(e),
            a=math.exp(a + alpha * self.mean_n),
            b=math.exp(b + beta * self.mean_d),
            alpha=alpha,
            beta=beta,
        )

    def objective(self, theta: Floats) -> tuple[float, Floats]:
        """Huber loss in units of delta squared, and its gradient [5]."""
        a, b, e = theta[:3]
        alpha, beta = _exponents(theta)
        terms = np.stack([a - alpha * self.x, b - beta * self.y, np.full_like(self.x, e)])
        top = terms.max(axis=0)
        weights = np.exp(terms - top)
        total = weights.sum(axis=0)
        residuals = (top + np.log(total) - self.log_l) / _HUBER_DELTA
        size = np.abs(residuals)
        value = np.where(size <= 1, 0.5 * residuals**2, size - 0.5).sum()
        n_share, d_share, e_share = weights / total * np.clip(residuals, -1, 1) / _HUBER_DELTA
        # d alpha / d logit, as _exponents has it.
        n_slope, d_slope = (each * (1 - each / LARGEST_EXPONENT) for each in (alpha, beta))
        parts = (n_share, d_share, e_share, -n_slope * self.x * n_share, -d_slope * self.y * d_share)
        return float(value), np.array([part.sum() for part in parts])

    def starts(self, count: int) -> list[Floats]:
        """The best of a grid over both exponents."""
        losses = np.exp(self.log_l)
        found: list[tuple[float, int, Floats]] = []
        for alpha in _EXPONENTS:
            for beta in _EXPONENTS:
                columns = np.stack([np.exp(-alpha * self.x), np.exp(-beta * self.y), np.ones_like(self.x)], axis=1)
                solution = np.linalg.lstsq(columns / losses[:, None], np.ones_like(losses), rcond=None)[0]
                solution = np.maximum(solution, _SMALLEST_SHARE * losses.mean())
                logits = (math.log(each / (LARGEST_EXPONENT - each)) for each in (alpha, beta))
                theta = np.array([*np.log(solution), *logits])
                found.append((self.objective(theta)[0], len(found), theta))
        return [theta for _, _, theta in sorted(found)[:count]]


def fit_law(points: Sequence[LawPoint], name: str, source: str) -> Fit:
    """The law of least Huber loss. The points are those that `check_design` has let pass."""
    made = _made(points)
    return made.law(_best(made, made.starts(_STARTS)), name, source)


def resampled_laws(points: Sequence[LawPoint], count: int, seed: int, progress: Callable[[int], None]) -> list[Fit]:
    """Laws of runs drawn with replacement, for intervals. `progress` is told how many are done."""
    generator = np.random.default_rng(seed)
    laws: list[Fit] = []
    while len(laws) < count:
        drawn = [points[i] for i in generator.integers(len(points), size=len(points))]
        # A draw without three sizes says nothing about the curve.
        if min(len({p.parameters for p in drawn}), len({p.tokens for p in drawn})) < FEWEST_SIZES:
            continue
        made = _made(drawn)
        laws.append(made.law(_best(made, made.starts(_RESAMPLED_STARTS)), "", ""))
        progress(len(laws))
    return laws


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Between which 95% of the values are."""
    low, high = np.quantile(np.array(values), [0.025, 0.975])
    return float(low), float(high)


def _exponents(theta: Floats) -> Floats:
    """alpha and beta: positive and bounded, so that no step of the search can overflow."""
    shares: Floats = LARGEST_EXPONENT / (1 + np.exp(-np.clip(theta[3:], -500, 500)))
    return shares


def _made(points: Sequence[LawPoint]) -> Points:
    columns = zip(*((p.parameters, p.tokens, p.loss) for p in points), strict=True)
    return Points(*(np.array(column, dtype=np.float64) for column in columns))


def _best(points: Points, starts: Sequence[Floats]) -> Floats:
    ends = [_minimise(points, start) for start in starts]
    return min(ends, key=lambda theta: points.objective(theta)[0])


def _minimise(points: Points, start: Floats) -> Floats:
    """L-BFGS from a start; float64, since the objective is flat along A and alpha."""
    theta = torch.tensor(start, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        [theta],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        value, gradient = points.objective(theta.numpy())
        theta.grad = torch.from_numpy(gradient)
        return value

    optimizer.step(closure)
    found = theta.numpy()
    return found if np.isfinite(points.objective(found)[0]) else start
