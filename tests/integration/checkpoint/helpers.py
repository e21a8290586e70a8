"""Small runs to save and load in tests: a state of a few tensors, snapshots of it, and one-line save and load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.attempts import Attempt, claim_attempt
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.load import Loaded, find_checkpoint, load_checkpoint
from trainer.checkpoint.save import Hashes, Saver, SaveResult, Snapshot
from trainer.checkpoint.store import Store

MODEL_SHA256 = "b" * 64
KEEP_ALL = KeepConfig(rolling=100)


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self._trace),))


def make_state(seed: int) -> dict[str, Any]:
    """A nested state dict with tensors of several types, a scalar and plain values."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "model": {
            "embedding.weight": torch.randn(64, 33, generator=generator),
            "norm.weight": torch.full((33,), 1.0 + seed),
        },
        "optimizer": {
            "state": {
                "norm.weight": {"step": torch.tensor(float(seed)), "exp_avg": torch.randn(33, generator=generator)}
            },
            "lr": seed / 8,
        },
        "rng": {"torch": torch.randint(0, 255, (100,), dtype=torch.uint8, generator=generator)},
    }


def make_snapshot(step: int, tensors: dict[str, Any] | None = None, **changed: Any) -> Snapshot:
    """The snapshot of a step; its state is a function of the step."""
    fields: dict[str, Any] = {
        "tokens": step * 1000,
        "epoch": step / 100,
        "loss": 10.0 / step,
        "validation_loss": None,
        "tensors": make_state(step) if tensors is None else tensors,
        "progress": {"step": step, "best_loss": 1.5},
        "rank_state": f"rank state of step {step}".encode(),
        "config_yaml": "name: tiny\n",
        "hashes": Hashes("a" * 64, MODEL_SHA256, "c" * 64, "d" * 64),
    }
    return Snapshot(step=step, **(fields | changed))


def claim(run: Store, base: str | None = None) -> Attempt:
    """The next attempt of a run."""
    return claim_attempt(run, world_size=1, config_sha256="a" * 64, base_checkpoint=base, hosts=["host-a"])


def save(attempt: Attempt, *snapshots: Snapshot, **options: Any) -> list[SaveResult]:
    """Save in this process and wait."""
    saver = Saver(attempt, group=None, **({"keep": KEEP_ALL} | options))
    results: list[SaveResult] = []
    for snapshot in snapshots:
        saver.save(snapshot)
        results += saver.wait()
    return results


def load(run: Store, reference: str = "latest", local: Path | None = None) -> tuple[Loaded, dict[str, Any]]:
    """Load in this process into a state of other values."""
    state = make_state(0)
    loaded = load_checkpoint(find_checkpoint(run, reference), state, model_sha256=MODEL_SHA256, local=local)
    return loaded, state


def same(left: Any, right: Any) -> bool:
    """Nested states are equal, tensors bitwise."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    return bool(left == right)


def flip_bit(run: Store, path: str) -> None:
    """Change one bit in the middle of a stored file."""
    data = bytearray(run.read_bytes(path))
    data[len(data) // 2] ^= 1
    overwrite(run, path, bytes(data))


def overwrite(run: Store, path: str, data: bytes) -> None:
    """Replace a stored file behind the program's back."""
    if run.is_local:
        run.local_path(path).parent.mkdir(parents=True, exist_ok=True)
    run.filesystem.pipe_file(f"{run.root}/{path}", data)
