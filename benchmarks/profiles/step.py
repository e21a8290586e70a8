"""A step of a small GPT-2 on one core: the train loop of a run, but for its saves."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.common import write_random_tokens
from benchmarks.product import Product
from benchmarks.profiles.table import Profile, profile
from benchmarks.training_sides import SIZES, run_file
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
    torch.set_num_threads(1)
    size = SIZES[SIZE]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        write_random_tokens(Path(folder, "tokens.bin"), vocab_size=size.vocab_size, tokens=500_000)
        product = Product(run_file(size, Path(folder)))
        product.live.saver = Unsaved()

        def steps() -> None:
            run = product.live
            run.total_steps = run.progress.step + STEPS
            train(run)

        found = profile(f"a step of {size.tokens_per_step:,} tokens, 1.3M parameters", steps, repeats=5, scale=STEPS)
        product.close()
    return found
