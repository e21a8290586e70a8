"""Learning-rate schedules as pure functions of the step.

Called once per step by the train loop. Being a function of (step, total_steps) alone, a schedule needs no state in a
checkpoint, and a run resumed at another world size follows the same curve.
"""

from __future__ import annotations

import math

from trainer.train.config import CosineConfig, LinearConfig, ScheduleConfig


def lr_factor(schedule: ScheduleConfig, step: int, total_steps: int) -> float:
    """Share of the peak learning rate to use for `step` (the first step is 0) of `total_steps`.

    Warm-up grows linearly and reaches 1 at step `warmup_steps`; the last step has `final_ratio`.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / (schedule.warmup_steps + 1)
    if isinstance(schedule, CosineConfig):
        done = _progress(step, schedule.warmup_steps, total_steps)
        return _between(schedule.final_ratio, 0.5 * (1 + math.cos(math.pi * done)))
    if isinstance(schedule, LinearConfig):
        return _between(schedule.final_ratio, 1 - _progress(step, schedule.warmup_steps, total_steps))
    decay_start = max(schedule.warmup_steps, total_steps - round(schedule.decay_ratio * total_steps))
    if step < decay_start:
        return 1.0
    return _between(schedule.final_ratio, 1 - _progress(step, decay_start - 1, total_steps))


def _progress(step: int, start: int, total_steps: int) -> float:
    """0 at `start`, 1 at the last step."""
    return min(1.0, (step - start) / max(1, total_steps - 1 - start))


def _between(low: float, share: float) -> float:
    """`low` at share 0, 1 at share 1."""
    return low + (1 - low) * share
