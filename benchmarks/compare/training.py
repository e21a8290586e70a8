"""Training: tokens per second and peak memory of one GPT-2, in one process and in two."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import write_random_tokens
from benchmarks.compare.measurement import OURS, Measurement, Part, Report
from benchmarks.compare.turns import hosts, in_turn
from benchmarks.training_sides import SIDES, SIZES, parameters

BAR = 0.97
CORES = 2
ROUNDS = 7
SIZE = "4m"
QUICK_SIZE = "1m"
DATA_TOKENS = 2_000_000


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
    """All sides take turns; exits with 1 where one did not learn."""
    size = SIZES[name]
    steps = 2 if quick else size.steps_per_round
    rates: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    arguments = ("benchmarks.training_sides", SIDES, name, folder)
    # The first steps allocate optimizer state and warm every cache.
    first = {"steps": 2}
    with hosts(*arguments, world=world, threads=CORES // world, first_job=first) as (working, absent):
        for side in in_turn(list(working), 1 if quick else ROUNDS):
            started = time.perf_counter()
            answers = working[side].ask({"steps": steps})
            rates.setdefault(side, []).append(steps * size.tokens_per_step / (time.perf_counter() - started))
            peaks[side] = [max(answer["peak_memory_bytes"] for answer in answers) / 1e6]
            losses.setdefault(side, []).extend(answers[0]["losses"])
    stuck = [side for side, found in losses.items() if not found[-1] < found[0]]
    if stuck and not quick:
        sys.exit(f"the loss of {', '.join(stuck)} did not go down: {losses}")
    where = f"{parameters(size) / 1e6:.1f}M parameters, {world} process{'es' if world > 1 else ''}"
    return Report(
        [
            Measurement(f"training, {where}", "tokens/s", True, ours_first(rates), bar=BAR, digits=0),
            Measurement(f"peak memory of a process, {where}", "MB", False, ours_first(peaks), digits=0),
        ],
        absent,
    )


def ours_first(rounds: dict[str, list[float]]) -> dict[str, list[float]]:
    """The same, in the order in which sides are listed."""
    return {side: rounds[side] for side in (OURS, *SIDES) if side in rounds}


PART = Part(
    title="Training",
    settings="GPT-2 in fp32, batches of 8 sequences of 256 tokens from one file, fused AdamW, clipping; one process "
    "with two threads, or two processes with one each, replicas whose gradients gloo adds up. The plain loop, "
    "Fabric and DeepSpeed train the model of `benchmarks/plain_gpt.py`, Accelerate that of Transformers. "
    "Memory is resident, libraries included.",
    measure=measure,
)
