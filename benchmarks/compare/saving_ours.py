"""Our side of the comparison of saves; what it imports is not in the peers' environments."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.product import Product
from trainer.checkpoint.layout import CHECKPOINTS
from trainer.checkpoint.load import find_checkpoint, load_checkpoint
from trainer.train.state import restore_tensors, tensors_of


class ProductSaving(Product):
    """Saves as the train loop does, and restores as a new attempt does: asynchronous, with hashes and a commit."""

    def __init__(self, raw: dict[str, Any]) -> None:
        super().__init__(raw)
        self._runs = Path(raw["checkpoint"]["store"]) / raw["name"]

    def save(self, _: Path) -> None:
        self.live.saver.save(self.snapshot())

    def wait(self) -> None:
        failed = [result.error for result in self.live.saver.wait() if not result.ok]
        if failed:
            raise RuntimeError(f"a save failed: {failed[0]}")

    def hash(self, _: Path) -> None:
        """A restore compares the hash of every file it reads."""

    def forget(self, _: Path) -> None:
        # Not the folder that the peers have: the run's own.
        shutil.rmtree(self._runs / CHECKPOINTS)

    def restore(self, _: Path) -> None:
        run = self.live
        tensors = tensors_of(run.step.model, run.step.optimizers)
        load_checkpoint(
            find_checkpoint(run.store),
            tensors,
            model_sha256=run.identity.hashes.model_sha256,
            group=self.world.save_group,
            streams=run.config.checkpoint.streams,
        )
        restore_tensors(run.step.model, run.step.optimizers, tensors)

    def parameters(self) -> list[torch.Tensor]:
        return list(self.live.step.model.parameters())
