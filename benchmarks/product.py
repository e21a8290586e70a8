"""The product's own step loop in the hands of a benchmark: the real set-up, loader, optimizer and train step.

Used by training_sides.py, throughput_gpu.py, save_stall.py and compare/. What the train loop does besides (log lines,
flags, evaluation) is left out; saves are the caller's.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import Any

from trainer.checkpoint.save import Snapshot
from trainer.config_file import validate_run
from trainer.elastic.pulse import Pulse
from trainer.elastic.signals import StopSignals
from trainer.parallel.world import join_world, leave_world
from trainer.train.loop import Run, close_run
from trainer.train.monitoring import process_clock
from trainer.train.schedule import lr_factor
from trainer.train.setup import set_up
from trainer.train.state import data_order, random_state, tensors_of
from trainer.train.step import Flags, train_step

# A schedule needs an end; no benchmark gets there.
TOTAL_STEPS = 100_000


class Product:
    """A run set up from the mapping of a run file: the rank that the environment names, else a world of its own."""

    def __init__(self, raw: dict[str, Any]) -> None:
        raw = {key: value for key, value in raw.items() if key not in ("epochs", "tokens")}
        config = validate_run({**raw, "steps": TOTAL_STEPS, "resume": "none"}, source="benchmark")
        self.world = join_world(timeout_seconds=config.elastic.hang_seconds)
        # Standard output belongs to the benchmark's report.
        with contextlib.redirect_stdout(sys.stderr):
            run = set_up(config, self.world, StopSignals(), Pulse(), process_clock())
        assert run is not None, "resume: none never finds the run complete"
        self.live: Run = run

    def run(self, steps: int) -> list[float]:
        """Take optimizer steps; returns their losses."""
        return [self._step() for _ in range(steps)]

    def snapshot(self) -> Snapshot:
        """What the train loop saves."""
        run = self.live
        return Snapshot(
            step=run.progress.step,
            tokens=run.progress.tokens,
            epoch=run.progress.epoch,
            loss=run.progress.loss,
            validation_loss=None,
            tensors=tensors_of(run.step.model, run.step.optimizers),
            progress={**run.progress.to_json(), "data_order": data_order(run.config)},
            rank_state=random_state(run.step.device),
            config_yaml=run.identity.config_yaml,
            hashes=run.identity.hashes,
        )

    def close(self) -> None:
        """Leave as a worker does; nothing else may hold the model any more."""
        close_run(self.live)
        del self.live, self.world
        gc.collect()
        leave_world()

    def _step(self) -> float:
        run = self.live
        batch = next(run.loader)
        run.step.optimizers.set_lr_factor(lr_factor(run.config.schedule, run.progress.step, run.total_steps))
        result = train_step(run.step, batch.tokens, Flags)
        run.progress.step += 1
        run.progress.loss = result.loss
        return result.loss
