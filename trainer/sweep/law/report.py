"""A fitted law, what it foretells, and how sure that is: the JSON of `gpt-run scaling-law fit`. Called by the command.

The document's coefficients are those that `gpt-run plan --law` reads, so the JSON as it is printed is a law file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from trainer.errors import UserError
from trainer.plan.scaling_law import Fit
from trainer.sweep.law.fit import LARGEST_EXPONENT, fit_law, interval, resampled_laws
from trainer.sweep.law.points import LawPoint, read_points, warnings_of

Interval = tuple[float, float]
_AT_BOUND = 0.9
_LARGE_RESIDUAL = 0.02
"""Of the logarithm of a loss. Runs of one recipe lie within a percent of their law."""
COEFFICIENTS = ("irreducible", "a", "b", "alpha", "beta")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class FittedPoint(_Part):
    """A run, and what the law says of it."""

    run: str
    parameters: int
    tokens: int
    loss: float
    fitted: float
    residual: float
    """log(fitted / loss): 0.01 is one percent too high."""


class Prediction(_Part):
    """A loss that was asked for."""

    parameters: float
    tokens: float
    loss: float
    interval: Interval


class Optimum(_Part):
    """The best use of compute that was asked for, at 6ND."""

    flops: float
    parameters: float
    parameters_interval: Interval
    tokens: float
    tokens_interval: Interval
    loss: float
    loss_interval: Interval


class LawReport(_Part):
    """L(N, D) = irreducible + a / N^alpha + b / D^beta."""

    name: str
    source: str
    irreducible: float
    a: float
    b: float
    alpha: float
    beta: float
    intervals: dict[str, Interval]
    """95% of each coefficient, by the bootstrap."""
    points: tuple[FittedPoint, ...]
    largest_residual: float
    predictions: tuple[Prediction, ...]
    optima: tuple[Optimum, ...]
    warnings: tuple[str, ...]

    @property
    def law(self) -> Fit:
        """What it is about."""
        return Fit(self.name, self.source, **{name: getattr(self, name) for name in COEFFICIENTS})


@dataclass(frozen=True)
class LawRequest:
    """What the user asked for."""

    runs: Sequence[str]
    name: str = "own"
    parameters: str | None = None
    tokens: str | None = None
    flops: str | None = None
    bootstrap: int = 200
    seed: int = 1


def report_law(request: LawRequest, progress: Callable[[int], None]) -> LawReport:
    """Read the runs, fit, draw again, foretell. UserError for what is wrong in the request or with the runs."""
    parameters, tokens, flops = (
        _positive(option, getattr(request, option)) for option in ("parameters", "tokens", "flops")
    )
    if (parameters is None) != (tokens is None):
        raise UserError(
            "one of --parameters and --tokens without the other",
            expected="both, for a loss",
            fix="give the other one too, or --flops for the best of both",
        )
    found = read_points(request.runs)
    warnings = tuple(warnings_of(found))
    source = f"{len(found.points)} runs, Huber loss as in Hoffmann et al. 2022, arXiv:2203.15556"
    law = fit_law(found.points, request.name, source)
    resampled = resampled_laws(found.points, request.bootstrap, request.seed, progress)
    return make_report(law, found.points, resampled, parameters, tokens, flops, warnings)


def make_report(
    law: Fit,
    points: Sequence[LawPoint],
    resampled: Sequence[Fit],
    parameters: float | None,
    tokens: float | None,
    flops: float | None,
    warnings: Sequence[str] = (),
) -> LawReport:
    """Everything that is printed. Pure."""
    fitted = tuple(_fitted(law, point) for point in points)
    predictions = []
    if parameters is not None and tokens is not None:
        spread = interval([each.loss(parameters, tokens) for each in resampled])
        loss = law.loss(parameters, tokens)
        predictions.append(Prediction(parameters=parameters, tokens=tokens, loss=loss, interval=spread))
    optimum = _optimum(law, resampled, flops) if flops is not None else None
    optima = (optimum,) if optimum is not None else ()
    doubts = _doubts(law, fitted)
    if flops is not None and optimum is None:
        doubts.append("there is no best size for these FLOP: by this law the loss falls with one of size and text only")
    return LawReport(
        name=law.name,
        source=law.source,
        **{name: getattr(law, name) for name in COEFFICIENTS},
        intervals={name: interval([getattr(each, name) for each in resampled]) for name in COEFFICIENTS},
        points=fitted,
        largest_residual=max(abs(point.residual) for point in fitted),
        predictions=tuple(predictions),
        optima=optima,
        warnings=(*warnings, *doubts, *_far(points, [*predictions, *optima])),
    )


def _fitted(law: Fit, point: LawPoint) -> FittedPoint:
    fitted = law.loss(point.parameters, point.tokens)
    return FittedPoint(
        run=point.run,
        parameters=point.parameters,
        tokens=point.tokens,
        loss=point.loss,
        fitted=fitted,
        residual=math.log(fitted / point.loss),
    )


def _optimum(law: Fit, resampled: Sequence[Fit], flops: float) -> Optimum | None:
    """None where the law has no best size; laws drawn again that have none are left out of the intervals."""
    best = _best(law, flops)
    others = [(each, found) for each in resampled if (found := _best(each, flops)) is not None]
    if best is None or not others:
        return None
    parameters, tokens = best
    return Optimum(
        flops=flops,
        parameters=parameters,
        parameters_interval=interval([n for _, (n, _) in others]),
        tokens=tokens,
        tokens_interval=interval([d for _, (_, d) in others]),
        loss=law.loss(parameters, tokens),
        loss_interval=interval([each.loss(n, d) for each, (n, d) in others]),
    )


def _best(law: Fit, flops: float) -> tuple[float, float] | None:
    """None for a law whose loss falls with parameters alone, or with tokens alone: the optimum is without end."""
    try:
        return law.optimum(flops)
    except (ZeroDivisionError, OverflowError):
        return None


def _doubts(law: Fit, points: Sequence[FittedPoint]) -> list[str]:
    """Signs that the runs do not follow such a law."""
    told = [
        f"the exponent of {what} is at its bound: the losses do not fall with {what} as such a law has it, so do not "
        "extrapolate; a learning rate that suits one size only, or too few steps, does that"
        for what, exponent in (("parameters", law.alpha), ("tokens", law.beta))
        if exponent > _AT_BOUND * LARGEST_EXPONENT
    ]
    worst = max(points, key=lambda point: abs(point.residual))
    if abs(worst.residual) > _LARGE_RESIDUAL:
        told.append(
            f"{worst.run} is {abs(worst.residual):.1%} off the law: look whether it was trained like the others"
        )
    return told


def _far(points: Sequence[LawPoint], answers: Sequence[Prediction | Optimum]) -> list[str]:
    """Answers that lie further from the runs than ten times."""
    told = []
    for answer in answers:
        for what, asked, known in (
            ("parameters", answer.parameters, [point.parameters for point in points]),
            ("tokens", answer.tokens, [point.tokens for point in points]),
        ):
            if not min(known) / 10 <= asked <= max(known) * 10:
                told.append(f"{asked:.3g} {what} are far from those of the runs, {min(known):.3g} to {max(known):.3g}")
    return told


def _positive(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise UserError(f"--{option} {text}", expected="a positive number such as 1.3e9", fix="write a number")
    return value
