"""A small run for tests of whole processes: its data, its run file, the command line, and what it left in the store.

Commands are started as a user starts them, in a folder of their own; their output goes to files that a test may look
into while they run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import psutil

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 120
# One thread per process: bitwise equal results need the same number everywhere, and machines have few cores.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "400"}

PIPELINE = {
    "name": "small",
    "output": "small",
    "sources": [{"type": "python-library", "max_bytes": 800_000}],
    "tokenizer": {"type": "bpe", "vocab_size": 512, "sample_bytes": 100_000},
    "validation_fraction": 0.1,
    "shard_tokens": 60_000,
}
# About 80,000 parameters, and a batch that three ranks do not divide.
RUN: dict[str, Any] = {
    "name": "small",
    "steps": 24,
    "model": {"family": "gpt2", "vocab_size": 512, "context": 32, "layers": 2, "width": 48, "heads": 2},
    "sequence_length": 32,
    "batch": {"sequences": 10, "micro_sequences": 5},
    "optimizer": {"type": "adamw", "lr": 3e-3},
    "schedule": {"type": "cosine", "warmup_steps": 4},
    "checkpoint": {"keep": {"rolling": 100}},
    "log": {"every_steps": 1},
}


class Started(Protocol):
    """What tests use of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Process:
    """A command that runs, or has ended."""

    def __init__(self, popen: Started, output: Path, wait_seconds: float) -> None:
        self.popen = popen
        self.output = output
        self._wait_seconds = wait_seconds

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def text(self) -> str:
        """What it has printed until now, on both streams."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the output matches; fails if the process ends before that."""
        deadline = time.monotonic() + self._wait_seconds
        while True:
            ended = self.popen.poll() is not None
            if match := re.search(pattern, self.text, re.MULTILINE):
                return match
            assert not ended, f"ended with {self.popen.returncode} before {pattern!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"no {pattern!r} in {self._wait_seconds} s:\n{self.text}"
            time.sleep(0.005)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        return self.popen.wait(self._wait_seconds)

    def tree(self) -> list[psutil.Process]:
        """It, and all that came from it."""
        root = psutil.Process(self.popen.pid)
        return [root, *root.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """Its ranks, by the names they give themselves, in order."""
        ranks = [member for member in self.tree() if _name(member).startswith("gpt-run:rank")]
        return sorted(ranks, key=_name)

    def power_off(self) -> None:
        """End it and all that came from it at one moment."""
        kill_tree(self.popen)

    def freeze(self) -> list[psutil.Process]:
        """SIGSTOP to it and all that came from it; what was stopped."""
        members = self.tree()
        for member in members:
            member.suspend()
        return members

    def end(self) -> None:
        """Leave nothing behind, whatever the test has come to."""
        if self.popen.poll() is None:
            self.power_off()


class Training:
    """A folder with a run file `run.yaml` and the store `runs`, and the commands that were started in it."""

    wait_seconds = WAIT_SECONDS
    """Whatever takes longer is stuck."""

    def __init__(self, folder: Path, dataset: Path, changes: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        settings = merged(RUN, {"data": {"train": str(dataset)}}, changes or {})
        (folder / "run.yaml").write_text(json.dumps(settings, indent=1))

    @property
    def run(self) -> Path:
        """The run's folder in the store."""
        return self.folder / "runs" / "small"

    def train(self, *overrides: str, nproc: int = 1, **options: Any) -> Process:
        """`gpt-run train run.yaml`, started."""
        return self.start("train", "run.yaml", "--nproc", str(nproc), *sets(overrides), **options)

    def start(
        self,
        *arguments: str,
        program: tuple[str, ...] = ("-m", "trainer"),
        environment: Mapping[str, str] | None = None,
        terminal: int | None = None,
    ) -> Process:
        """A Python program, by default `gpt-run`, started; `terminal` is the descriptor to give it, closed here."""
        output = self.folder / f"output-{len(self.processes)}.txt"
        with output.open("wb") as stream:
            popen = subprocess.Popen(
                [sys.executable, *program, *arguments],
                cwd=self.folder,
                env={**os.environ, **ENVIRONMENT, **(environment or {})},
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=stream if terminal is None else terminal,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if terminal is not None:
            os.close(terminal)
        self.processes.append(Process(popen, output, self.wait_seconds))
        return self.processes[-1]

    def end(self) -> None:
        """End what still runs."""
        for process in self.processes:
            process.end()

    def records(self, attempt: str = "*") -> list[dict[str, Any]]:
        """Lines of training.jsonl, in the order of attempts."""
        files = sorted(self.run.glob(f"logs/{attempt}/training-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def steps(self, attempt: str = "*") -> dict[int, tuple[float, str]]:
        """(loss, batch_sha256) by step; of a step that was done twice, the later."""
        lines = (record for record in self.records(attempt) if "loss" in record)
        return {record["step"]: (record["loss"], record["batch_sha256"]) for record in lines}

    def wait_for_steps(self, attempt: str, steps: int) -> None:
        """Wait until an attempt has logged so many steps."""
        deadline = time.monotonic() + self.wait_seconds
        while len(self.steps(attempt)) < steps:
            texts = "\n".join(process.text for process in self.processes)
            assert time.monotonic() < deadline, f"no {steps} steps in {attempt}:\n{texts}"
            time.sleep(0.01)

    def step_times(self) -> list[tuple[str, int, float]]:
        """(attempt, step, seconds since the epoch) of every step that was logged, in order of time."""
        lines = (record for record in self.records() if "loss" in record)
        found = [(line["attempt"], line["step"], datetime.fromisoformat(line["time"]).timestamp()) for line in lines]
        return sorted(found, key=lambda line: line[2])

    def pause_after(self, attempt: str) -> tuple[float, int]:
        """(seconds from an attempt's last step to the next one, less the median step; steps done again)."""
        times = self.step_times()
        gaps = [later[2] - earlier[2] for earlier, later in pairwise(times)]
        last = max(index for index, line in enumerate(times) if line[0] == attempt)
        return gaps[last] - statistics.median(gaps), max(0, times[last][1] + 1 - times[last + 1][1])

    def checkpoints(self) -> list[str]:
        """Names of the committed checkpoints, by step."""
        return sorted(marker.parent.name for marker in self.run.glob("checkpoints/*/COMMITTED.json"))

    def committed(self, name: str) -> dict[str, Any]:
        """COMMITTED.json of a checkpoint."""
        found: dict[str, Any] = json.loads((self.run / "checkpoints" / name / "COMMITTED.json").read_text())
        return found

    def claims(self) -> list[dict[str, Any]]:
        """The attempts' claims, in order."""
        return [json.loads(file.read_text()) for file in sorted((self.run / "attempts").glob("*.json"))]


def read_status(http_port: int) -> dict[str, Any]:
    """/status of the coordinator or driver of this machine that serves it at a port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def sets(overrides: tuple[str, ...]) -> list[str]:
    """`--set` before each."""
    return [part for override in overrides for part in ("--set", override)]


def merged(*mappings: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings laid over each other, nested ones key by key."""
    result: dict[str, Any] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(value, Mapping) and isinstance(old, dict) else value
    return result


def prepare(folder: Path) -> Path:
    """The prepared set, made by the command; its folder."""
    (folder / "pipeline.yaml").write_text(json.dumps(PIPELINE))
    command = [sys.executable, "-m", "trainer", "data", "prepare", "pipeline.yaml"]
    subprocess.run(command, cwd=folder, env=os.environ | ENVIRONMENT, check=True, capture_output=True, timeout=120)
    return folder / "small"


def kill_tree(popen: Started) -> None:
    """SIGKILL to a process and all that came from it at one moment, as a machine dies that loses its power."""
    root = psutil.Process(popen.pid)
    root.suspend()
    members = [root, *root.children(recursive=True)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(number)
    popen.wait()
    psutil.wait_procs(members[1:], timeout=10)


def processes_of(sessions: Collection[int]) -> list[psutil.Process]:
    """Processes of sessions, also of one whose first process has died: what a command started, and what they did."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) in sessions:
                found.append(process)
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; fails if it never does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_until_gone(processes: Iterable[psutil.Process]) -> None:
    """Wait until none of them runs: one that nobody has reaped yet is gone too."""
    deadline = time.monotonic() + WAIT_SECONDS
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline, f"{process} still runs"
                time.sleep(0.01)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
