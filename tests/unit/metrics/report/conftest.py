"""Stores of runs, written out file by file as a trainer leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 1_800_000_000
PRICE = {"cost": {"price_per_gpu_hour": 2.0, "currency": "EUR"}}


def time(second: float) -> str:
    return datetime.fromtimestamp(START_SECONDS + second, UTC).isoformat(timespec="milliseconds")


class Run:
    """A run's folder; times are seconds since its start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    @property
    def url(self) -> str:
        return str(self.folder)

    def config(self, **values: Any) -> None:
        # JSON is YAML.
        (self.folder / "run.yaml").write_text(json.dumps({"name": self.folder.name, **values}))

    def claim(self, attempt: int, second: float, world_size: int = 2, base: str | None = None, **end: Any) -> None:
        document = {
            "format": 1,
            "attempt": attempt,
            "nonce": f"n{attempt}",
            "started_at": time(second),
            "world_size": world_size,
            "hosts": ["a", "b"][:world_size],
            "config_sha256": "c",
            "base_checkpoint": base,
            "previous_end": end or None,
        }
        self.write(f"attempts/a{attempt:04d}.json", json.dumps(document))

    def lines(self, attempt: int, kind: str, records: Iterable[dict[str, Any]], segment: int = 0) -> None:
        text = "".join(json.dumps(record) + "\n" for record in records)
        self.write(f"logs/a{attempt:04d}/{kind}-{segment:03d}.jsonl", text)

    def commit(self, step: int, attempt: int, second: float, **changes: Any) -> None:
        document = {
            "format": 1,
            "nonce": f"n{step}",
            "run": self.folder.name,
            "step": step,
            "tokens": step * 1000,
            "epoch": step / 100,
            "attempt": attempt,
            "world_size": 2,
            "loss": 5.0 - step / 100,
            "config_sha256": "c",
            "model_sha256": "m",
            "dataset_sha256": "d",
            "tokenizer_sha256": "t",
            "committed_at": time(second),
            "duration_seconds": 1.5,
            "bytes": 2_000_000,
            "files": {},
        }
        self.write(f"checkpoints/step-{step:08d}-a{attempt:04d}/COMMITTED.json", json.dumps({**document, **changes}))

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def training(step: int, second: float, world_size: int = 2, **values: Any) -> dict[str, Any]:
    """A line of training.jsonl."""
    return {
        "time": time(second),
        "step": step,
        "tokens": step * 1000,
        "epoch": step / 100,
        "loss": 5.0 - step / 100,
        "tokens_per_second": 500.0 * world_size,
        "step_seconds": 2.0 / world_size,
        "mfu_ratio": 0.4,
        "world_size": world_size,
        "memory_bytes": 1_000_000_000,
        **values,
    }


def account(step: int, second: float, workers: int = 2, **seconds: float) -> dict[str, Any]:
    """A line of performance.jsonl."""
    return {
        "time": time(second),
        "step": step,
        "world_size": workers,
        "shares": {"data": 0.1, "forward_backward": 0.8, "communication": 0.1},
        "rank_step_seconds": {"min": 0.8, "median": 1.0, "max": 1.5},
        "slowest_rank": 1,
        "checkpoint_stall_seconds": 0.5,
        "goodput_seconds": seconds,
        "gpu_seconds": {bucket: spent * workers for bucket, spent in seconds.items()},
        "hosts": [
            {
                "host": "a",
                "cpu_ratio": 0.5,
                "memory_used_bytes": 2e9,
                "memory_total_bytes": 8e9,
                "disk_free_bytes": 5e9,
            }
        ],
    }


def gpu(step: int, second: float, number: int, utilization: float) -> dict[str, Any]:
    """A line of gpu.jsonl."""
    return {
        "time": time(second),
        "step": step,
        "node": "a",
        "gpu": number,
        "name": "NVIDIA H100 80GB HBM3",
        "utilization_ratio": utilization,
        "memory_used_bytes": 60e9 + number,
        "memory_total_bytes": 80e9,
        "power_watts": 600.0,
        "temperature_celsius": 60.0 + number,
    }


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Run]:
    return lambda name="demo": Run(tmp_path / "runs" / name)


@pytest.fixture
def killed_and_scaled(new_run: Callable[..., Run]) -> Run:
    """Two workers for 60 steps, killed; from step 40 to 80 again, scaled to 4; to step 120, finished."""
    run = new_run()
    run.config(steps=120, model={"family": "gpt2"}, precision="bf16", **PRICE)
    run.claim(1, 0)
    run.lines(1, "training", [training(step, 10 + step) for step in range(10, 61, 10)])
    run.lines(1, "performance", [account(60, 70, init=5, program_start=5, training=60)])
    run.lines(1, "gpu", [gpu(60, 70, number, 0.8 + number / 10) for number in (0, 1)])
    run.commit(20, 1, 31)
    run.commit(40, 1, 52, validation_loss=4.5)
    run.claim(2, 100, base="step-00000040-a0001", reason="WorkerFailed", counted=True, message="rank 1 <died>")
    run.lines(2, "training", [training(step, 70 + step, loss=4.0 - step / 100) for step in range(50, 81, 10)])
    run.lines(2, "training", [{"time": time(151), "step": 80, "tokens": 80_000, "validation_loss": 3.5}], segment=1)
    run.commit(80, 2, 152, duration_seconds=4.5)
    buckets = {"init": 8, "program_start": 8, "training": 86, "wasted_progress": 18, "infra_recovery": 30}
    run.lines(2, "performance", [account(80, 150, **buckets)])
    run.claim(3, 160, 4, base="step-00000080-a0002", reason="Scaled", counted=False, message="a machine joined")
    run.lines(3, "training", [training(step, 120 + step / 2, 4, tokens_per_second=1600.0) for step in (90, 100, 110)])
    run.lines(3, "training", [training(120, 180, 4, tokens_per_second=1600.0, loss=2.5)], segment=1)
    buckets = {"init": 10, "program_start": 10, "training": 100, "wasted_progress": 18, "infra_recovery": 42}
    run.lines(3, "performance", [account(120, 180, 4, **buckets)])
    events = [{"time": time(52), "kind": "checkpoint", "step": 40}] * 4 + [{"kind": "checkpoint_failed", "step": 60}]
    run.lines(1, "events", events)
    run.lines(3, "events", [{"time": time(181), "kind": "finished", "reason": None, "message": "", "step": 120}])
    return run
