"""A save of 10.6M parameters and their moments to a local disk, by one thread that training waits for.

What is done in the background while training goes on is the same work, on threads that a profiler of one would not see.
"""

from __future__ import annotations

from benchmarks.profiles.small_run import small_run
from benchmarks.profiles.table import Profile, profile
from trainer.checkpoint.attempts import claim_attempt
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.save import Saver


def measure() -> Profile:
    """One save, from the step that asks for it to the marker and the removal of the one before."""
    with small_run("10m") as product:
        product.run(1)
        attempt = claim_attempt(product.live.store, world_size=1, config_sha256="0" * 64, base_checkpoint=None)
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

        return profile("a save of 127 MB", save, repeats=5)
