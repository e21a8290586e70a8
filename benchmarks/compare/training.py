"""Training: tokens per second and peak memory of one GPT-2, in one process and in two."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import write_random_tokens
from benchmarks.compare.measurement import Measurement, Part, Report
from benchmarks.compare.turns import hosts, take_turns
from benchmarks.hosts import Host
from benchmarks.training_sides import SIDES, SIZES, parameters

BAR = 0.97
CORES = 2
ROUNDS = 7
SIZE = "4m"
QUICK_SIZE = "1m"
DATA_TOKENS = 2_000_000


class Turn(NamedTuple):
    """One side's turn."""

    tokens_per_second: float
    peak_memory_bytes: int
    losses: list[float]


def measure(quick: bool) -> Report:
    """One process with both cores, then two with one each."""
    name = QUICK_SIZE if quick else SIZE
    size = SIZES[name]
    with tempfile.TemporaryDirectory() as folder:
        write_random_tokens(Path(folder) / "tokens.bin", vocab_size=size.vocab_size, tokens=DATA_TOKENS)
        reports = [measure_world(folder, name, world, quick=quick) for world in (1, 2)]
    return Report(
        [measurement for report in reports for measurement in report.measurements],
        {side: words for report in reports for side, words in report.absent.items()},
    )


def measure_world(folder: str, name: str, world: int, *, quick: bool) -> Report:
    """All sides take turns; one that does not learn has no figure."""
    size = SIZES[name]
    steps = 2 if quick else size.steps_per_round
    processes = f"{world} process{'es' if world > 1 else ''}"

    def turn(host: Host) -> Turn:
        started = time.perf_counter()
        answers = host.ask({"steps": steps})
        rate = steps * size.tokens_per_step / (time.perf_counter() - started)
        return Turn(rate, max(answer["peak_memory_bytes"] for answer in answers), answers[0]["losses"])

    arguments = ("benchmarks.training_sides", SIDES, name, folder)
    # The first steps allocate optimizer state and warm every cache.
    first = {"steps": 2}
    with hosts(*arguments, world=world, threads=CORES // world, first_job=first) as (working, absent):
        turns = take_turns(working, absent, 1 if quick else ROUNDS, turn)
    for side in [] if quick else list(turns):
        losses = [loss for found in turns[side] for loss in found.losses]
        if not losses[-1] < losses[0]:
            absent[side] = f"its loss did not go down: {losses[0]:.3f} to {losses[-1]:.3f}"
            del turns[side]
    where = f"{parameters(size) / 1e6:.1f}M parameters, {processes}"
    rates = {side: [found.tokens_per_second for found in rounds] for side, rounds in turns.items()}
    # It only grows.
    peaks = {side: [rounds[-1].peak_memory_bytes / 1e6] for side, rounds in turns.items()}
    return Report(
        [
            Measurement(f"training, {where}", "tokens/s", True, rates, bar=BAR, digits=0),
            Measurement(f"peak memory of a process, {where}", "MB", False, peaks, digits=0),
        ],
        {f"{side}, {processes}": words for side, words in absent.items()},
    )


PART = Part(
    title="Training",
    settings="GPT-2 in fp32, batches of 8 sequences of 256 tokens from one file, fused AdamW, clipping; one process "
    "with two threads, or two processes with one each, replicas whose gradients gloo adds up. The plain loop, "
    "Fabric and DeepSpeed train the model of `benchmarks/plain_gpt.py`, Accelerate that of Transformers. "
    "Memory is resident, libraries included.",
    measure=measure,
)
