"""Recovery: one of two workers is killed; how long until there is a step that had not been taken before."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.compare.measurement import OURS, Measurement, Part, Report
from benchmarks.compare.plain_worker import (
    HEADS,
    LAYERS,
    LENGTH,
    SAVE_EVERY_STEPS,
    SEQUENCES,
    VOCAB_SIZE,
    WIDTH,
    prepare,
)
from benchmarks.compare.turns import complaint, in_turn
from tests.integration.training import Training

BAR = 1.0
ROUNDS = 3
KILLS = 2
WAIT_SECONDS = 200
# Ray gives up where its node does not answer within 30 s, which no setting changes.
STARTS = 2
RUN: dict[str, Any] = {
    "steps": 1_000_000,
    "model": {
        "family": "gpt2",
        "vocab_size": VOCAB_SIZE,
        "context": LENGTH,
        "layers": LAYERS,
        "width": WIDTH,
        "heads": HEADS,
    },
    "sequence_length": LENGTH,
    "batch": {"sequences": SEQUENCES, "micro_sequences": SEQUENCES},
    "parallel": {"shard": "none"},
    "checkpoint": {"every_steps": SAVE_EVERY_STEPS},
    "log": {"every_steps": 1},
}


class Step(NamedTuple):
    """A step that has ended."""

    life: str | int
    """Of the attempt or the process that took it; another one after a recovery."""
    number: int
    seconds: float
    """Since the epoch."""


class Side:
    """A run of two workers that is under way."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        prepare(folder)
        self.training = Training(folder, folder / "tokens.bin", RUN)
        self.start()

    def start(self) -> None:
        """Start both workers."""
        raise NotImplementedError

    def steps(self) -> list[Step]:
        """Every step of rank 0 until now."""
        return [Step(line["pid"], line["step"], line["time"]) for line in self.lines(0)]

    def victim(self) -> int:
        """The process id of rank 1."""
        return int(self.lines(1)[-1]["pid"])

    def lines(self, rank: int) -> list[dict[str, Any]]:
        """What a plain worker wrote down; the last line may still be on its way."""
        file = self.training.folder / f"steps-{rank}.jsonl"
        text = file.read_text() if file.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class Ours(Side):
    """`gpt-run train`."""

    def start(self) -> None:
        self._process = self.training.train(nproc=2)

    def steps(self) -> list[Step]:
        return [Step(*line) for line in self.training.step_times()]

    def victim(self) -> int:
        return self._process.workers()[1].pid


class Torchrun(Side):
    """torchrun, which starts both workers anew."""

    def start(self) -> None:
        options = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "100", "--monitor-interval", "0.1")
        worker = ("-m", "benchmarks.compare.plain_worker", ".")
        # As in benchmarks.recovery; without it workers that were started anew have been seen to wait for each other.
        environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        self.training.start(*options, *worker, program=("-m", "torch.distributed.run"), environment=environment)


class RayTrain(Side):
    """Ray Train."""

    def start(self) -> None:
        folder = str(self.training.folder)
        # Killed, it leaves its session behind: in a folder that is removed.
        environment = {"RAY_TMPDIR": folder, "TMPDIR": folder}
        self.training.start("-m", "benchmarks.compare.recovery_ray", folder, program=(), environment=environment)


SIDES = {OURS: Ours, "torchrun + DCP": Torchrun, "Ray Train + DCP": RayTrain}


def measure(quick: bool) -> Report:
    """All sides take turns; each is started, and its worker killed a few times."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for number, name in enumerate(in_turn(list(SIDES), 1 if quick else ROUNDS)):
            if name not in absent:
                try:
                    seconds[name] += recoveries(name, Path(folder) / str(number), 1 if quick else KILLS)
                except (RuntimeError, psutil.Error) as error:
                    print(error, file=sys.stderr, flush=True)
                    absent[name] = complaint(error)
    found = {name: values for name, values in seconds.items() if name not in absent}
    what = "from SIGKILL of one of two workers to the next new step"
    return Report([Measurement(what, "s", False, found, bar=BAR)], absent)


def recoveries(name: str, folder: Path, kills: int) -> list[float]:
    """Seconds of each kill of one run. Raises RuntimeError where it does not come back."""
    side = started(name, folder)
    try:
        return [recovery(side) for _ in range(kills)]
    finally:
        side.training.end()


def started(name: str, folder: Path) -> Side:
    """A run that has got to its first kill. Raises RuntimeError where the second start does not get there either."""
    for number in range(1, STARTS + 1):
        side = SIDES[name](folder.with_name(f"{folder.name}-{number}"))
        try:
            wait_for(side, half_way_after(0))
        except RuntimeError as error:
            side.training.end()
            if number == STARTS:
                raise
            print(f"{name} is started once more: {error}", file=sys.stderr, flush=True)
        except BaseException:
            side.training.end()
            raise
        else:
            return side
    raise AssertionError("the last start has returned or raised")


def recovery(side: Side) -> float:
    """Kill rank 1, wait until the next kill is due; seconds from the kill to the end of the first that is new."""
    before = side.steps()[-1].life
    killed = time.time()
    os.kill(side.victim(), signal.SIGKILL)
    wait_for(side, half_way_after(max(step.number for step in side.steps())))
    return first_new_step(side.steps(), before).seconds - killed


def half_way_after(step: int) -> int:
    """The first step half-way between two saves that has a save between it and `step`."""
    return (step // SAVE_EVERY_STEPS + 1) * SAVE_EVERY_STEPS + SAVE_EVERY_STEPS // 2


def first_new_step(steps: Sequence[Step], before: str | int) -> Step:
    """The first step beyond all that the life `before` took, and the lives before it: what is done again is not new."""
    ended = max(index for index, step in enumerate(steps) if step.life == before)
    last = max(step.number for step in steps[: ended + 1])
    return next(step for step in steps[ended + 1 :] if step.number > last)


def wait_for(side: Side, step: int) -> None:
    """Wait until a run has taken so many steps. Raises RuntimeError with the end of what it printed."""
    deadline = time.monotonic() + WAIT_SECONDS
    while max((found.number for found in side.steps()), default=0) < step:
        process = side.training.processes[-1]
        if time.monotonic() > deadline or process.popen.poll() is not None:
            raise RuntimeError(f"no step {step}:\n{process.text[-2000:]}")
        time.sleep(0.02)


PART = Part(
    title="Recovery",
    settings=f"A GPT-2 of {LAYERS} layers of {WIDTH}, batches of {SEQUENCES} sequences of {LENGTH} tokens, two "
    f"workers of one thread, a save every {SAVE_EVERY_STEPS} steps; a worker is killed half-way between "
    "two saves, so that steps have to be done again. The peers run the plain model under "
    "DistributedDataParallel with DCP. torchrun looks every 0.1 s, Ray Train every 0.5 s.",
    measure=measure,
)
