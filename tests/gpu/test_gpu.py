"""Training on one real GPU: bf16 under NCCL, save, kill, resume, compilation and its fall-back.

Run with `make test-gpu`; every test skips itself where there is no GPU. Data are tokens of a fixed pattern, so nothing
is downloaded and a model of this size learns them within a few steps.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.timeout(600),
]

RUN = """
name: gpu
steps: {steps}
model: {{family: {family}, vocab_size: 512, context: 256, layers: 4, width: 256, heads: 4}}
sequence_length: 256
batch: {{sequences: 16, micro_sequences: 8}}
data: {{train: {data}}}
precision: bf16
optimizer: {{type: adamw, lr: 1e-3}}
checkpoint: {{store: {store}, every_steps: 5}}
log: {{every_steps: 1}}
"""


class GpuRun:
    """A run file in a folder of its own, and what its attempts logged."""

    def __init__(self, folder: Path, *, steps: int = 20, family: str = "gpt2") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "train.bin"
        (np.arange(400_000, dtype=np.uint32) * 7 % 509).astype(np.uint16).tofile(data)
        self.store = folder / "runs"
        self.file = folder / "run.yaml"
        self.file.write_text(RUN.format(steps=steps, family=family, data=data, store=self.store))

    def start(self, *overrides: str, **environment: str) -> subprocess.Popen[str]:
        options = [part for override in overrides for part in ("--set", override)]
        return subprocess.Popen(
            [sys.executable, "-m", "trainer", "train", str(self.file), *options],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, *overrides: str, **environment: str) -> str:
        process = self.start(*overrides, **environment)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    def lines(self, name: str) -> list[dict[str, Any]]:
        files = sorted(self.store.glob(f"gpu/logs/*/{name}-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def losses(self) -> dict[int, float]:
        return {line["step"]: line["loss"] for line in self.lines("training") if "loss" in line}

    def committed(self) -> list[Path]:
        return sorted(self.store.glob("gpu/checkpoints/*/COMMITTED.json"))


@pytest.mark.parametrize("family", ["gpt2", "llama", "neox"])
def test_bf16_learns(tmp_path: Path, family: str) -> None:
    run = GpuRun(tmp_path, family=family)
    run.finish()
    losses = run.losses()
    assert losses[20] < losses[1] - 1.0


def test_killed_run_goes_on_from_its_newest_checkpoint(tmp_path: Path) -> None:
    alone, killed = GpuRun(tmp_path / "alone"), GpuRun(tmp_path / "killed")
    alone.finish()
    process = killed.start()
    while not killed.committed():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "going on from" in killed.finish()
    for step, loss in killed.losses().items():
        assert loss == pytest.approx(alone.losses()[step], rel=2e-2)  # bf16 kernels add in varying order


def test_parts_of_a_step_and_the_gpu_are_measured(tmp_path: Path) -> None:
    run = GpuRun(tmp_path, steps=40)
    run.finish("log.profile_seconds=0.001")
    shares = run.lines("performance")[-2]["shares"]  # the last line is the account at the end
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-4)
    assert shares["forward_backward"] > shares["optimizer"] > 0
    assert shares["communication"] < 0.05  # there is nobody to wait for
    gpu = run.lines("gpu")[-1]
    assert gpu["name"] == torch.cuda.get_device_name(0)
    assert 0 < gpu["memory_used_bytes"] <= gpu["memory_total_bytes"]
    assert gpu["power_watts"] > 0
    assert 0 <= gpu["utilization_ratio"] <= 1


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_compiled_blocks_with_recomputation(tmp_path: Path, recompute: str) -> None:
    run = GpuRun(tmp_path)
    output = run.finish("parallel.compile=true", f"parallel.recompute={recompute}")
    assert "run eagerly" not in output
    assert ", compiled" in output
    assert run.losses()[20] < run.losses()[1] - 1.0


def test_broken_compiler_falls_back(tmp_path: Path) -> None:
    run = GpuRun(tmp_path, steps=5)
    output = run.finish("parallel.compile=true", f"parallel.compile_cache={tmp_path / 'cache'}", CC="/bin/false")
    assert "run eagerly" in output
    assert ", compiled" not in output
    assert len(run.losses()) == 5


def test_offload_keeps_the_losses(tmp_path: Path) -> None:
    plain, offloaded = GpuRun(tmp_path / "a", steps=5), GpuRun(tmp_path / "b", steps=5)
    plain.finish("precision=fp32")
    offloaded.finish("precision=fp32", "parallel.offload=true")
    assert offloaded.losses()[5] == pytest.approx(plain.losses()[5], rel=1e-3)
