"""Saves and restores: how long training waits, and what the steps around it and a restore take."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.common import write_random_tokens
from benchmarks.compare.measurement import Measurement, Part, Report
from benchmarks.compare.saving_sides import SIDES
from benchmarks.compare.turns import hosts, take_turns
from benchmarks.hosts import Host, HostFailed
from benchmarks.training_sides import SIZES, parameters

BAR = 1.0
THREADS = 2
ROUNDS = 3
SIZE = "34m"
QUICK_SIZE = "1m"
STEPS = 10
# Those after it share the cores with what goes on beside training.
STEPS_BEFORE = 1
STALL = "training waits for a save"
STEPS_AND_SAVE = f"{STEPS} steps with a save among them"
# Ours never reads a file whose hash it has not compared, the peers compare none: once as each does it, once all alike.
RESTORE = "restore into a built model, as each does it"
RESTORE_CHECKED = "restore into a built model, hashes compared on all sides"
BARS = {STALL: BAR, STEPS_AND_SAVE: None, RESTORE: None, RESTORE_CHECKED: BAR}


def measure(quick: bool) -> Report:
    """All sides take turns: steps around a save, and a restore of it."""
    name = QUICK_SIZE if quick else SIZE
    size = SIZES[name]
    with tempfile.TemporaryDirectory() as folder:
        write_random_tokens(Path(folder) / "tokens.bin", vocab_size=size.vocab_size, tokens=1_000_000)
        arguments = ("benchmarks.compare.saving_sides", SIDES, name, folder)
        first = {"do": "steps", "steps": 2}
        with hosts(*arguments, world=1, threads=THREADS, first_job=first) as (working, absent):
            # The first allocates what later saves use again.
            turns = take_turns(working, absent, 1 + (1 if quick else ROUNDS), turn)
    where = f"{parameters(size) / 1e6:.0f}M parameters"
    return Report(
        [
            Measurement(
                f"{what}, {where}",
                "s",
                False,
                {side: [found[what] for found in rounds[1:]] for side, rounds in turns.items()},
                bar=bar,
                digits=3,
            )
            for what, bar in BARS.items()
        ],
        absent,
    )


def turn(host: Host) -> dict[str, float]:
    """Seconds of one side. Raises HostFailed if what it restored is not what it saved."""
    around = seconds_of(host, {"do": "steps", "steps": STEPS_BEFORE})
    saved = host.ask({"do": "sum"})
    stall = seconds_of(host, {"do": "save"})
    around += stall + seconds_of(host, {"do": "steps", "steps": STEPS - STEPS_BEFORE})
    host.ask({"do": "wait"})
    hashes = seconds_of(host, {"do": "hash"})
    restore = seconds_of(host, {"do": "restore"})
    if host.ask({"do": "sum"}) != saved:
        raise HostFailed("it restored something else than it had saved")
    host.ask({"do": "forget"})
    return {STALL: stall, STEPS_AND_SAVE: around, RESTORE: restore, RESTORE_CHECKED: hashes + restore}


def seconds_of(host: Host, job: dict[str, object]) -> float:
    """How long a side takes for a job."""
    started = time.perf_counter()
    host.ask(job)
    return time.perf_counter() - started


PART = Part(
    title="Saves and restores",
    settings="The model and AdamW's moments, fp32, one process with two threads, to and from this machine's disk. Ours "
    "is what a run does by default: asynchronous, written with hashes, fsync and a commit; Accelerate "
    "`save_state` and Fabric `save`, without fsync, DCP `torch.distributed.checkpoint.save` or `async_save`, with "
    "fsync. The removal of the save before is in nobody's time. Files are in the page cache when they are read. "
    "Where hashes are compared on all sides, the peers' time has that of sha256 over their files, four at a time as "
    "ours. After every restore the parameters are compared with those that were saved.",
    measure=measure,
)
