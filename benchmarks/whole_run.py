"""Whole runs in the hands of a benchmark: prepared text, a run file, `gpt-run train`, and what a run wrote down.

Used by resume_exact.py and resume_elastic.py. Everything goes through the command line and the store, as a user does
it; the figures are read from training.jsonl and from the attempts' claims.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.training import kill_tree

ROOT = Path(__file__).parent.parent
NAME = "resume"
STEPS = 200
WAIT_SECONDS = 300
# A part of the text that every Python installation carries: about one and a half epochs of it in 200 steps, so that
# stops fall before and after the data is shuffled anew.
PIPELINE = {
    "name": "python-library-part",
    "output": "text",
    "sources": [{"type": "python-library", "max_bytes": 600_000}],
    "tokenizer": {"type": "bpe", "vocab_size": 2048, "sample_bytes": 300_000},
    "validation_fraction": 0.0,
    "shard_tokens": 50_000,
}
# The preset tiny-gpt2 with half its layers: 0.7M parameters, so that a step of three ranks on two cores stays short.
# Its learning rate is a third: at 3e-3 so small a model is unstable (its loss leaps by 3 in single early steps), and
# rounding grows to 2e-5 even between two micro-batch sizes on one rank; at 1e-3 to less than 6e-6.
RUN: dict[str, Any] = {
    "name": NAME,
    "steps": STEPS,
    "model": {"preset": "tiny-gpt2", "vocab_size": 2048, "context": 128, "layers": 2},
    "sequence_length": 128,
    "batch": {"sequences": 10, "micro_sequences": 3},
    "precision": "fp32",
    "optimizer": {"type": "adamw", "lr": 1e-3},
    "schedule": {"type": "cosine", "warmup_steps": 20},
    "log": {"every_steps": 1},
}


class Step(NamedTuple):
    """What training.jsonl says of a step."""

    loss: float
    batch_sha256: str


class WholeRun:
    """A folder with a run file and a store; attempts are started in it one after another."""

    def __init__(self, folder: Path, data: Path, changes: Mapping[str, Any]) -> None:
        self._folder = folder
        self._run = folder / "runs" / NAME
        folder.mkdir()
        # JSON is YAML.
        (folder / "run.yaml").write_text(json.dumps({**RUN, "data": {"train": str(data)}, **changes}))

    @contextlib.contextmanager
    def started(self, nproc: int) -> Iterator[subprocess.Popen[bytes]]:
        """`gpt-run train` with that many workers; whatever still runs of it at the end is killed."""
        command = [sys.executable, "-m", "trainer", "train", "run.yaml", "--nproc", str(nproc)]
        with (self._folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                command, cwd=self._folder, env=environment(), stdout=output, stderr=subprocess.STDOUT
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                kill_tree(process)

    def expect(self, process: subprocess.Popen[bytes], code: int) -> None:
        """Wait for the end of an attempt, and end the benchmark if it is another one than this exit code."""
        if process.wait(WAIT_SECONDS) != code:
            self._give_up(f"ended with {process.returncode} instead of {code}")

    def wait_for_step(self, process: subprocess.Popen[bytes], attempt: int, step: int) -> None:
        """Wait until an attempt that runs has logged a step."""
        deadline = time.monotonic() + WAIT_SECONDS
        while max(self.steps(attempt), default=0) < step:
            if process.poll() is not None:
                self._give_up(f"ended with {process.returncode} before step {step}")
            if time.monotonic() > deadline:
                self._give_up(f"did not reach step {step} in {WAIT_SECONDS} s")
            time.sleep(0.01)

    def steps(self, attempt: int) -> dict[int, Step]:
        """Steps that an attempt has logged until now, in order."""
        path = self._run / "logs" / f"a{attempt:04d}" / "training-000.jsonl"
        text = path.read_text() if path.exists() else ""
        # The last line may still be on its way.
        records = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return {record["step"]: Step(record["loss"], record["batch_sha256"]) for record in records}

    def world_size(self, attempt: int) -> int:
        """Ranks of an attempt, as it claimed the run."""
        claim = json.loads((self._run / "attempts" / f"a{attempt:04d}.json").read_text())
        return int(claim["world_size"])

    def _give_up(self, why: str) -> None:
        output = (self._folder / "output.txt").read_text(errors="replace")
        raise RuntimeError(f"`gpt-run train` {why}; its output:\n{output[-4000:]}")


def prepare_text(folder: Path) -> Path:
    """The folder of a prepared set, made by `gpt-run data prepare`."""
    (folder / "pipeline.yaml").write_text(json.dumps(PIPELINE))
    command = [sys.executable, "-m", "trainer", "data", "prepare", "pipeline.yaml"]
    subprocess.run(command, cwd=folder, env=environment(), stdout=sys.stderr, check=True)
    return folder / "text"


def environment() -> dict[str, str]:
    """This process's, with the same sources in another folder, and one thread per rank unless it says otherwise.

    Equal bits need equal numbers of threads, and threads that share their cores with others wait for each other.
    """
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
