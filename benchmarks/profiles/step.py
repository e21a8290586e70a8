"""A step of a small GPT-2 on one core: the train loop of a run, but for its saves."""

from __future__ import annotations

from benchmarks.profiles.small_run import small_run
from benchmarks.profiles.table import Profile, profile
from benchmarks.training_sides import SIZES
from trainer.checkpoint.save import Saver, SaveResult, Snapshot
from trainer.train.loop import train

SIZE, STEPS = "1m", 6


class Unsaved(Saver):
    """Saves are another activity."""

    def __init__(self) -> None:
        """There is nothing to set up."""

    busy = False

    def save(self, snapshot: Snapshot) -> None:
        """Not here."""

    def poll(self) -> list[SaveResult]:
        return []

    wait = poll


def measure() -> Profile:
    """One step of 8 sequences of 256 tokens."""
    with small_run(SIZE) as product:
        product.live.saver = Unsaved()

        def steps() -> None:
            run = product.live
            run.total_steps = run.progress.step + STEPS
            train(run)

        unit = f"a step of {SIZES[SIZE].tokens_per_step:,} tokens, 1.3M parameters"
        return profile(unit, steps, repeats=5, scale=STEPS)
