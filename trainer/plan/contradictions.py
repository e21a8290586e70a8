"""Claims that cannot be true: against the plan, against each other, and against physics.

Each check is a function over the claims and the plan that gives the contradictions it found; all are run. Pure; called
by the command.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trainer.plan.claims import Claims
from trainer.plan.plan import Plan
from trainer.plan.scaling_law import loss_range, optimal_tokens_range

Interval = tuple[float, float]

TOLERANCE = 0.05
"""Two figures that differ by no more than this are taken for roundings of one."""
BEST_MFU = 0.65
"""By 6N + 12LdT: the most that dense training in bf16 is known to reach (docs/decisions/plan.md)."""
_LOSS_TOLERANCE = 0.15
"""The fits were made on other text and tokenizers than the run's."""
# A float's exponential ends there.
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class Contradiction:
    """One claim that does not hold."""

    name: str
    """The claim's key, or two joined by ` and ` where they exclude each other."""
    message: str
    """What is claimed, what is true and why."""

    def as_dict(self) -> dict[str, Any]:
        """As in `--json`."""
        return {"name": self.name, "message": self.message}


def find_contradictions(claims: Claims, plan: Plan) -> tuple[Contradiction, ...]:
    """Everything in `claims` that cannot be."""
    return tuple(found for check in _CHECKS for found in check(claims, plan))


def _size(claims: Claims, plan: Plan) -> Iterator[Contradiction]:
    if claims.parameters is not None and not _rounds_to(plan.parameters, claims.parameters):
        yield Contradiction(
            "parameters",
            f"{_big(claims.parameters)} parameters claimed; the model has {plan.parameters:,}"
            f" ({plan.parameters / claims.parameters - 1:+.1%})",
        )
    width = plan.config.model.width
    if claims.heads is not None and width % claims.heads:
        yield Contradiction(
            "heads",
            f"{claims.heads} heads claimed; the width of {width} cannot be divided by it; this run has "
            f"{plan.config.model.heads} heads of {plan.config.model.head_width}",
        )
    elif claims.heads is not None and claims.heads != plan.config.model.heads:
        yield Contradiction("heads", f"{claims.heads} heads claimed; the run file has {plan.config.model.heads}")


def _length(claims: Claims, plan: Plan) -> Iterator[Contradiction]:
    config = plan.config
    step_tokens = config.batch.sequences * config.sequence_length
    steps = claims.steps or (None if plan.steps is None else (float(plan.steps),) * 2)
    if claims.tokens and steps and _apart(claims.tokens, _times(steps, step_tokens)):
        yield Contradiction(
            "tokens",
            f"{_big(claims.tokens)} tokens claimed; {_big(steps)} steps of {step_tokens:,} are "
            f"{_big(_times(steps, step_tokens))}",
        )
    if claims.dataset_tokens and claims.epochs and steps:
        passes = _over(_times(steps, step_tokens), claims.dataset_tokens)
        if _apart(claims.epochs, passes):
            yield Contradiction(
                "epochs",
                f"{_plain(claims.epochs)} epochs claimed; {_big(_times(steps, step_tokens))} tokens are "
                f"{_plain(passes)} passes over {_big(claims.dataset_tokens)}",
            )
    size = plan.storage.token_bytes
    if claims.dataset_tokens and claims.dataset_gb:
        true = _times(claims.dataset_tokens, size / 1e9)
        if _apart(claims.dataset_gb, true):
            yield Contradiction(
                "dataset_gb",
                f"{_plain(claims.dataset_gb)} GB claimed; {_big(claims.dataset_tokens)} tokens of {size} bytes are "
                f"{_plain(true)} GB",
            )


def _speed(claims: Claims, plan: Plan) -> Iterator[Contradiction]:
    """Against the hardware's peak: what needs more is impossible, what needs more than was ever published unlikely."""
    accelerator = plan.cluster.accelerator
    peak = _gpus(claims, plan) * accelerator.dense_flops_per_second
    for name, tokens_per_second in _speeds(claims, plan):
        needed = _times(tokens_per_second, plan.flops_per_token)
        if needed[0] / peak <= BEST_MFU:
            continue
        where = f"{_gpus(claims, plan):g} x {accelerator.name}"
        why = (
            f"the dense peak of {where} is {peak:.2g}"
            if needed[0] > peak
            else f"that is an MFU of {needed[0] / peak:.0%} on {where}; dense training is not known to go "
            f"beyond {BEST_MFU:.0%}"
        )
        yield Contradiction(name, f"{_plain(getattr(claims, name))} claimed; that needs {needed[0]:.2g} FLOP/s: {why}")


def _utilization(claims: Claims, plan: Plan) -> Iterator[Contradiction]:
    """Speed and MFU say the same thing twice; they agree if they do by either convention."""
    if claims.mfu is None:
        return
    peak = _gpus(claims, plan) * plan.cluster.accelerator.dense_flops_per_second
    if claims.mfu[0] > 1:
        yield Contradiction("mfu", f"{_plain(claims.mfu)} claimed; it is a share of the peak, at most 1")
        return
    for name, tokens_per_second in _speeds(claims, plan):
        most = (claims.mfu[0] * peak / plan.flops_per_token, claims.mfu[1] * peak / plan.parameter_flops_per_token)
        if _apart(tokens_per_second, most):
            needed = _times(tokens_per_second, plan.flops_per_token / peak)
            yield Contradiction(
                f"{name} and mfu",
                f"{_plain(getattr(claims, name))} and an MFU of {_plain(claims.mfu)} claimed; on "
                f"{_gpus(claims, plan):g} x {plan.cluster.accelerator.name} that MFU is {_big(most)} tokens/s, and "
                f"that speed an MFU of {_plain(needed)} by 6N + 12LdT",
            )


def _time(claims: Claims, plan: Plan) -> Iterator[Contradiction]:
    for name, unit in (("hours", 3600.0), ("days", 86400.0)):
        claimed = getattr(claims, name)
        if claimed is None:
            continue
        tokens = _tokens(claims, plan)
        if tokens is None:
            continue
        speeds = dict(_speeds(claims, plan))
        for speed_name, tokens_per_second in speeds.items():
            true = _times(_over(tokens, tokens_per_second), 1 / unit)
            if _apart(claimed, true):
                yield Contradiction(
                    f"{name} and {speed_name}",
                    f"{_plain(claimed)} {name} claimed; {_big(tokens)} tokens at {_big(tokens_per_second)} tokens/s "
                    f"take {_plain(true)} {name}",
                )
        fastest = plan.hours_at(plan.high)
        if not speeds and fastest is not None and claimed[1] * unit / 3600 < fastest * (1 - TOLERANCE):
            yield Contradiction(
                name,
                f"{_plain(claimed)} {name} claimed; at the best speed planned, {_big(plan.high.tokens_per_second)} "
                f"tokens/s, it takes {fastest * 3600 / unit:.3g} {name}",
            )


def _money(claims: Claims, plan: Plan) -> Iterator[Contradiction]:
    hours = claims.hours or (_times(claims.days, 24) if claims.days else None)
    if claims.cost and claims.price_per_hour and hours:
        true = (hours[0] * claims.price_per_hour[0], hours[1] * claims.price_per_hour[1])
        if _apart(claims.cost, true):
            yield Contradiction(
                "cost",
                f"{_plain(claims.cost)} claimed; {_plain(hours)} hours at {_plain(claims.price_per_hour)} are "
                f"{_plain(true)}",
            )
    elif claims.cost and plan.cost is not None and plan.hours:
        hours_best = plan.hours_at(plan.high)
        assert hours_best is not None
        least = plan.cost * hours_best / plan.hours
        if claims.cost[1] < least * (1 - TOLERANCE):
            yield Contradiction(
                "cost",
                f"{_plain(claims.cost)} claimed; at {plan.cluster.price:g} per GPU and hour and the best speed planned "
                f"it is {least:.4g}",
            )


def _memory(claims: Claims, plan: Plan) -> Iterator[Contradiction]:
    if claims.memory_gb is None or _gpus(claims, plan) != plan.cluster.gpus:
        return
    total, tracked = plan.memory.total / 1e9, plan.memory.tracked / 1e9
    if _apart(claims.memory_gb, (tracked, total), tolerance=0.1):
        yield Contradiction(
            "memory_gb",
            f"{_plain(claims.memory_gb)} GB per GPU claimed; {plan.cluster.gpus} ranks with shard "
            f"{plan.config.parallel.shard}, recompute {plan.config.parallel.recompute} and micro-batches of "
            f"{plan.config.batch.micro_sequences} need {total:.1f} GB",
        )


def _losses(claims: Claims, plan: Plan) -> Iterator[Contradiction]:
    untrained = plan.untrained_loss
    # Fresh weights give every token about the same probability; more than a few per cent below that was trained.
    if claims.initial_loss and (claims.initial_loss[1] < 0.9 * untrained or claims.initial_loss[0] > 1.2 * untrained):
        yield Contradiction(
            "initial_loss",
            f"{_plain(claims.initial_loss)} claimed; an untrained model with {plan.config.model.vocab_size:,} tokens "
            f"starts at ln({plan.config.model.vocab_size:,}) = {untrained:.1f}",
        )
    if claims.final_loss and claims.perplexity:
        true = (_perplexity(claims.final_loss[0]), _perplexity(claims.final_loss[1]))
        if _apart(claims.perplexity, true):
            yield Contradiction(
                "perplexity",
                f"{_plain(claims.perplexity)} claimed; a loss of {_plain(claims.final_loss)} is one of {_plain(true)}",
            )
    tokens = _tokens(claims, plan)
    if claims.final_loss and tokens:
        unique = claims.dataset_tokens[1] if claims.dataset_tokens else plan.assumptions.dataset_tokens
        found = loss_range(plan.parameters, tokens[1], unique, plan.assumptions.fits)
        # More than an untrained model has is foretold by a law that was not made for so small a run.
        if found[1] < untrained and _apart(claims.final_loss, found, tolerance=_LOSS_TOLERANCE):
            yield Contradiction(
                "final_loss",
                f"{_plain(claims.final_loss)} claimed; {_laws(plan)} foretell {_plain(found)} for "
                f"{_big(plan.parameters)} parameters after {_big(tokens)} tokens",
            )
    if claims.optimal_tokens:
        optimal = optimal_tokens_range(plan.parameters, plan.assumptions.fits)
        if _apart(claims.optimal_tokens, optimal, tolerance=_LOSS_TOLERANCE):
            yield Contradiction(
                "optimal_tokens",
                f"{_big(claims.optimal_tokens)} claimed; for {_big(plan.parameters)} parameters "
                f"{_laws(plan)} give {_big(optimal)}",
            )


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < _LARGEST_EXPONENT else math.inf


def _laws(plan: Plan) -> str:
    """Who says so."""
    return f"{len(plan.assumptions.fits)} scaling laws" if plan.assumptions.law is None else "the law's coefficients"


def _lost_work(claims: Claims, plan: Plan) -> Iterator[Contradiction]:
    if claims.lost_seconds is None:
        return
    config = plan.config
    step_tokens = config.batch.sequences * config.sequence_length
    speeds = [speed for _, speed in _speeds(claims, plan)] or [(plan.typical.tokens_per_second,) * 2]
    step_seconds = step_tokens / speeds[0][1]
    if claims.save_every_steps is not None:
        interval, how = claims.save_every_steps * step_seconds, f"{claims.save_every_steps:g} steps"
    else:
        interval, how = plan.resilience.save_interval_seconds, "the run file's interval"
    if interval > claims.lost_seconds[1] * (1 + TOLERANCE):
        yield Contradiction(
            "lost_seconds",
            f"at most {claims.lost_seconds[1]:g} s of work lost claimed; a crash costs up to {how}, "
            f"{interval:,.0f} s at {_big(speeds[0])} tokens/s: save by time, checkpoint.every_seconds",
        )


_CHECKS: tuple[Callable[[Claims, Plan], Iterator[Contradiction]], ...] = (
    _size,
    _length,
    _speed,
    _utilization,
    _time,
    _money,
    _memory,
    _losses,
    _lost_work,
)


def _gpus(claims: Claims, plan: Plan) -> float:
    return claims.gpus if claims.gpus is not None else plan.cluster.gpus


def _tokens(claims: Claims, plan: Plan) -> Interval | None:
    """Of the whole run: by the claimed steps, as claimed, by claimed passes, or as planned."""
    if claims.steps is not None:
        return _times(claims.steps, plan.config.batch.sequences * plan.config.sequence_length)
    if claims.tokens is not None:
        return claims.tokens
    if claims.dataset_tokens is not None and claims.epochs is not None:
        return claims.dataset_tokens[0] * claims.epochs[0], claims.dataset_tokens[1] * claims.epochs[1]
    return None if plan.tokens is None else (float(plan.tokens), float(plan.tokens))


def _speeds(claims: Claims, plan: Plan) -> Iterator[tuple[str, Interval]]:
    """Every claim that says how fast the run is, as tokens per second of all GPUs."""
    config, gpus = plan.config, _gpus(claims, plan)
    step_tokens = config.batch.sequences * config.sequence_length
    in_tokens = {
        "tokens_per_second": 1.0,
        "tokens_per_second_per_gpu": gpus,
        "steps_per_hour": step_tokens / 3600,
        "micro_steps_per_second": config.batch.micro_sequences * config.sequence_length * gpus,
    }
    for name, factor in in_tokens.items():
        claimed = getattr(claims, name)
        if claimed is not None:
            yield name, _times(claimed, factor)


def _apart(a: Interval, b: Interval, *, tolerance: float = TOLERANCE) -> bool:
    """Whether no value of one range is within the tolerance of one of the other."""
    return a[1] * (1 + tolerance) < b[0] or b[1] * (1 + tolerance) < a[0]


def _times(interval: Interval, factor: float) -> Interval:
    return interval[0] * factor, interval[1] * factor


def _over(numerator: Interval, denominator: Interval) -> Interval:
    return numerator[0] / denominator[1], numerator[1] / denominator[0]


def _rounds_to(value: float, claimed: float) -> bool:
    """Whether `claimed` is `value` rounded to the digits that it is given with, or nearly so."""
    if abs(value / claimed - 1) <= 0.005:
        return True
    digits = len(f"{claimed:.12g}".replace(".", "").strip("0")) if claimed < 1e12 else 3
    return float(f"{value:.{max(digits, 2)}g}") == float(f"{claimed:.{max(digits, 2)}g}")


def _plain(interval: Interval) -> str:
    low, high = (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in interval)
    return low if low == high else f"{low} to {high}"


def _big(value: float | Interval) -> str:
    low, high = (_with_suffix(each) for each in (value if isinstance(value, tuple) else (value, value)))
    return low if low == high else f"{low} to {high}"


def _with_suffix(value: float) -> str:
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"
