"""Saves and restores: how long training waits, and what the steps around it and a restore take."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import write_random_tokens
from benchmarks.compare.measurement import Measurement, Part, Report
from benchmarks.compare.saving_sides import SIDES
from benchmarks.compare.turns import hosts, in_turn
from benchmarks.hosts import Host
from benchmarks.training_sides import SIZES, parameters

BAR = 1.0
THREADS = 2
ROUNDS = 3
SIZE = "34m"
QUICK_SIZE = "1m"
STEPS = 10
# Those after it share the cores with what goes on beside training.
STEPS_BEFORE = 1
STALL, STEPS_AND_SAVE, RESTORE = (
    "training waits for a save",
    f"{STEPS} steps with a save among them",
    "restore into a built model",
)


def measure(quick: bool) -> Report:
    """All sides take turns: steps around a save, and a restore of it."""
    name = QUICK_SIZE if quick else SIZE
    size = SIZES[name]
    rounds: dict[str, dict[str, list[float]]] = {
        what: {side: [] for side in SIDES} for what in (STALL, STEPS_AND_SAVE, RESTORE)
    }
    with tempfile.TemporaryDirectory() as folder:
        write_random_tokens(Path(folder) / "tokens.bin", vocab_size=size.vocab_size, tokens=1_000_000)
        arguments = ("benchmarks.compare.saving_sides", SIDES, name, folder)
        first = {"do": "steps", "steps": 2}
        with hosts(*arguments, world=1, threads=THREADS, first_job=first) as (working, absent):
            for host in working.values():
                # Allocates what later saves use again.
                turn(host)
            for side in in_turn(list(working), 1 if quick else ROUNDS):
                for what, seconds in turn(working[side]).items():
                    rounds[what][side].append(seconds)
    where = f"{parameters(size) / 1e6:.0f}M parameters"
    return Report(
        [
            Measurement(f"{what}, {where}", "s", False, {side: found[side] for side in working}, bar=bar, digits=3)
            for (what, found), bar in zip(rounds.items(), (BAR, None, BAR), strict=True)
        ],
        absent,
    )


def turn(host: Host) -> dict[str, float]:
    """Seconds of one side; exits with 1 if what it restored is not what it saved."""
    around = seconds_of(host, {"do": "steps", "steps": STEPS_BEFORE})
    saved = host.ask({"do": "sum"})
    stall = seconds_of(host, {"do": "save"})
    around += stall + seconds_of(host, {"do": "steps", "steps": STEPS - STEPS_BEFORE})
    host.ask({"do": "wait"})
    restore = seconds_of(host, {"do": "restore"})
    if host.ask({"do": "sum"}) != saved:
        sys.exit("a side restored something else than it had saved")
    host.ask({"do": "forget"})
    return {STALL: stall, STEPS_AND_SAVE: around, RESTORE: restore}


def seconds_of(host: Host, job: dict[str, object]) -> float:
    """How long a side takes for a job."""
    started = time.perf_counter()
    host.ask(job)
    return time.perf_counter() - started


PART = Part(
    title="Saves and restores",
    settings="The model and AdamW's moments, fp32, one process with two threads, to and from this machine's disk. Ours "
    "is what a run does by default: asynchronous, written with hashes, fsync and a commit; Accelerate "
    "`save_state`, Fabric `save`, DCP `torch.distributed.checkpoint.save` or `async_save`. Files are in the "
    "page cache when they are read. After every restore the parameters are compared with those that were "
    "saved.",
    measure=measure,
)
