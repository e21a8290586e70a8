"""Early end of hopeless runs: synchronous successive halving by validation loss.

All runs are trained to the first rung; the best of them, one in `eta`, go on to the next, and so on to the end
(Jamieson and Talwalkar 2016, arXiv:1502.07943, algorithm 1; ASHA, arXiv:1810.05934, is its asynchronous form).

A run that goes on is the same run: it stops at a save and resumes from its own checkpoint, and its config, above all
the length that its schedule is stretched over, is that of a run left alone from the beginning. What halving gets wrong
lies elsewhere: losses are compared in the middle of a schedule, where large learning rates have not yet been lowered
(docs/decisions/sweeps.md has figures). The rungs are pure functions; `run_halving` trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from trainer.config import RunConfig, total_steps
from trainer.errors import UserError
from trainer.sweep.local import Ended, LocalRunner
from trainer.sweep.points import Point
from trainer.sweep.standing import Standing, look


def rung_shares(runs: int, eta: int) -> list[float]:
    """Shares of the length at which runs are compared, so that one is left at the end: 9 by 3 gives 1/9 and 1/3."""
    rungs = 0
    while eta ** (rungs + 1) <= runs:
        rungs += 1
    return [eta ** -(rungs - i) for i in range(rungs)]


def rung_step(config: RunConfig, share: float) -> int:
    """The first evaluation at or behind a share of a run's steps."""
    every = config.evaluate.every_steps
    total = total_steps(config, 0)
    return min(total, math.ceil(share * total / every) * every)


def survivors(losses: dict[str, float], eta: int) -> list[str]:
    """The best of them, one in `eta` and at least one, in the order of their losses."""
    return sorted(losses, key=lambda name: losses[name])[: max(1, len(losses) // eta)]


def check_halving(points: Sequence[Point], eta: int) -> list[float]:
    """The shares at which runs are compared. UserError where no comparison is possible."""
    if any(point.config.epochs is not None for point in points):
        raise UserError(
            "--halving with a length in epochs",
            expected="a length in steps or tokens, of which a share is known before the data is read",
            fix="--set tokens=N",
        )
    shares = [share for share in rung_shares(len(points), eta) if all(_tells(p.config, share) for p in points)]
    if not shares:
        raise UserError(
            f"--halving {eta} with {len(points)} runs leaves no step at which to compare them",
            expected=f"at least {eta} runs, evaluated in time: behind the warm-up and before the end",
            fix="lower evaluate.every_steps or schedule.warmup_steps, or leave --halving out",
        )
    return shares


def run_halving(
    points: Sequence[Point],
    shares: Sequence[float],
    eta: int,
    runner: LocalRunner,
    stopped: Callable[[], bool],
    say: Callable[[str], None],
) -> tuple[dict[str, Ended], set[str]]:
    """Train in rungs; returns how processes ended, and the names of those that were given up."""
    ended: dict[str, Ended] = {}
    left = list(points)
    for share in shares:
        steps = {point.name: rung_step(point.config, share) for point in left}
        standings = [look(point) for point in left]
        late = [one.point for one in standings if loss_at(one, steps[one.point.name]) is None]
        ended |= runner.train(late, _reaches(steps))
        if stopped():
            return ended, set()
        losses = {p.name: loss for p in left if (loss := loss_at(look(p), steps[p.name])) is not None}
        kept = survivors(losses, eta)
        say(f"after {share:.0%} of the steps {len(kept)} of {len(left)} go on: {', '.join(kept) or 'none'}")
        left = [point for point in left if point.name in kept]
    ended |= runner.train([point for point in left if not look(point).finished])
    names = {point.name for point in left} | {name for name, end in ended.items() if end.failed}
    return ended, {point.name for point in points} - names


def _reaches(steps: Mapping[str, int]) -> Callable[[Point], bool]:
    """Whether a run has been evaluated at its rung."""
    return lambda point: loss_at(look(point), steps[point.name]) is not None


def loss_at(standing: Standing, step: int) -> float | None:
    """The validation loss at a rung; of a run that ended before it, its last."""
    if standing.finished:
        return standing.validation.get(step, standing.loss)
    return standing.validation.get(step)


def _tells(config: RunConfig, share: float) -> bool:
    return config.schedule.warmup_steps < rung_step(config, share) < total_steps(config, 0)
