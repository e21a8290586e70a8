"""A save of 10.6M parameters and their moments to a local disk, by one thread that training waits for.

What is done in the background while training goes on is the same work, on threads that a profiler of one would not see.
"""

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
from trainer.checkpoint.attempts import claim_attempt
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.save import Saver
from trainer.checkpoint.store import open_run

SIZE = "10m"


def measure() -> Profile:
    """One save, from the step that asks for it to the marker and the removal of the one before."""
    torch.set_num_threads(1)
    size = SIZES[SIZE]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        write_random_tokens(Path(folder, "tokens.bin"), vocab_size=size.vocab_size, tokens=500_000)
        product = Product(run_file(size, Path(folder)))
        product.run(1)
        store = open_run(str(Path(folder, "runs")), "compared")
        attempt = claim_attempt(store, world_size=1, config_sha256="0" * 64, base_checkpoint=None)
        saver = Saver(
            attempt,
            group=product.world.save_group,
            asynchronous=False,
            streams=1,
            keep=KeepConfig(rolling=1, best=0),
        )

        def save() -> None:
            product.live.progress.step += 1
            saver.save(product.snapshot())
            for result in saver.wait():
                assert result.ok, result.error

        found = profile("a save of 127 MB", save, repeats=5)
        product.close()
    return found
