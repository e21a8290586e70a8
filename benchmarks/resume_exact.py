"""Killed at a random step and resumed at the same world size, against a run left alone: every loss, bit by bit.

    python -m benchmarks.resume_exact [--seed N] [--json]

At world sizes 1 and 2, a small GPT-2 with dropout trains for 200 steps on real text, once left alone and once
killed: SIGKILL to the launcher and all workers at one moment, after a random step. Saves are asynchronous, so the kill
loses steps that the second attempt does again. All lines that both attempts logged, of lost steps too, are compared
with those of the run left alone. Bar: losses and `batch_sha256` are bitwise equal.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.whole_run import RUN, STEPS, Step, WholeRun, prepare_text
from tests.integration.training import kill_tree
from trainer.errors import EXIT_FINISHED

WORLD_SIZES = (1, 2)
SAVE_STEPS = 20
# Steps after which the kill may come: something is committed by then, and there is something left to do.
KILL_AFTER = range(2 * SAVE_STEPS, STEPS - 10)
CHANGES = {"model": {**RUN["model"], "dropout": 0.1}, "checkpoint": {"every_steps": SAVE_STEPS}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="draws the moments of the kills; by default another one each time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    print(f"seed of the kills: {seed}", file=sys.stderr)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        data = prepare_text(Path(name))
        results = [compare(Path(name), data, world_size, rng) for world_size in WORLD_SIZES]
    result = {"steps": STEPS, "seed": seed, "results": results}
    print(json.dumps(result) if options.json else report(result))


def compare(folder: Path, data: Path, world_size: int, rng: random.Random) -> dict[str, Any]:
    """Both runs at one world size, side by side."""
    alone = WholeRun(folder / f"alone-{world_size}", data, CHANGES)
    killed = WholeRun(folder / f"killed-{world_size}", data, CHANGES)
    with alone.started(world_size) as undisturbed:
        with killed.started(world_size) as process:
            killed.wait_for_step(process, 1, rng.choice(KILL_AFTER))
            time.sleep(rng.uniform(0, 0.1))  # into the next steps, to meet all parts of them
            kill_tree(process)
        with killed.started(world_size) as process:
            killed.expect(process, EXIT_FINISHED)
        alone.expect(undisturbed, EXIT_FINISHED)
    return figures(world_size, alone.steps(1), killed.steps(1), killed.steps(2))


def figures(
    world_size: int, expected: dict[int, Step], before: dict[int, Step], after: dict[int, Step]
) -> dict[str, Any]:
    """What differs before and after the kill; RuntimeError where a run left steps out, or began again at step 1."""
    found = [*before.items(), *after.items()]
    every_step = set(range(1, STEPS + 1))
    if set(expected) != every_step or {step for step, _ in found} != every_step or 1 in after:
        spans = [(min(lines), max(lines)) for lines in (expected, before, after)]
        raise RuntimeError(f"first and last steps of the run left alone, before the kill and after it: {spans}")
    return {
        "world_size": world_size,
        "killed_after_step": max(before),
        "replayed_steps": max(before) - min(after) + 1,
        "compared_steps": len(found),
        "different_losses": sum(line.loss != expected[step].loss for step, line in found),
        "different_batches": sum(line.batch_sha256 != expected[step].batch_sha256 for step, line in found),
        "first_loss": expected[1].loss,
        "last_loss": expected[STEPS].loss,
    }


def report(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{result['steps']} steps, killed at a random one (--seed {result['seed']}) and resumed:"]
    lines += [
        f"  world size {run['world_size']}: killed after step {run['killed_after_step']}, "
        f"{run['replayed_steps']} steps done again; of {run['compared_steps']} steps compared "
        f"{run['different_losses']} losses and {run['different_batches']} batches differ "
        f"(loss {run['first_loss']:.4f} to {run['last_loss']:.4f})"
        for run in result["results"]
    ]
    return "\n".join([*lines, "bar: none differs"])


if __name__ == "__main__":
    main()
