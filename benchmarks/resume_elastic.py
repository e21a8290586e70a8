"""Moved from 2 to 3 to 1 workers over stops, against a run left alone: its batches, and the largest loss difference.

    python -m benchmarks.resume_elastic [--json]

A small GPT-2 trains in fp32 for 200 steps on real text with a global batch of 10 sequences, which 3 ranks do not
divide: once left alone at one world size (the first), and once stopped twice by SIGTERM to the launcher, which saves
and exits with 75, and started again with another number of workers. Bar: every step has the same batch
(`batch_sha256`), and every loss is within 1e-5.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.whole_run import RUN, STEPS, WholeRun, prepare_text
from trainer.errors import EXIT_FINISHED, EXIT_PREEMPTED

BAR_LOSS_DIFFERENCE = 1e-5
WORLD_SIZES = (2, 3, 1)
STOP_AFTER_STEPS = (67, 134)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name))
    print(json.dumps(result) if as_json else report(result))


def measure(folder: Path) -> dict[str, Any]:
    """Both runs, side by side."""
    data = prepare_text(folder)
    alone, moved = WholeRun(folder / "alone", data, {}), WholeRun(folder / "moved", data, {})
    with alone.started(WORLD_SIZES[0]) as undisturbed:
        for attempt, (world_size, stop) in enumerate(zip(WORLD_SIZES, (*STOP_AFTER_STEPS, None), strict=True), start=1):
            with moved.started(world_size) as process:
                if stop is not None:
                    moved.wait_for_step(process, attempt, stop)
                    process.terminate()
                moved.expect(process, EXIT_FINISHED if stop is None else EXIT_PREEMPTED)
        alone.expect(undisturbed, EXIT_FINISHED)
    return compare(alone, moved)


def compare(alone: WholeRun, moved: WholeRun) -> dict[str, Any]:
    """The figures; RuntimeError where a run did other steps than it should, or on other ranks."""
    attempts = range(1, len(WORLD_SIZES) + 1)
    world_sizes = tuple(moved.world_size(attempt) for attempt in attempts)
    lines = {attempt: moved.steps(attempt) for attempt in attempts}
    # A stop loses nothing: no step is done twice.
    for steps in (list(alone.steps(1)), [step for attempt in attempts for step in lines[attempt]]):
        if steps != list(range(1, STEPS + 1)) or world_sizes != WORLD_SIZES:
            raise RuntimeError(f"world sizes {world_sizes} did the steps {steps}")
    expected = alone.steps(1)
    found = {step: line for attempt in attempts for step, line in lines[attempt].items()}
    differences = {step: abs(found[step].loss - expected[step].loss) for step in expected}
    return {
        "bar_loss_difference": BAR_LOSS_DIFFERENCE,
        "steps": STEPS,
        "batch_sequences": RUN["batch"]["sequences"],
        "world_sizes": world_sizes,
        "stopped_after_steps": [max(lines[attempt]) for attempt in attempts[:-1]],
        "different_batches": sum(found[step].batch_sha256 != expected[step].batch_sha256 for step in expected),
        "largest_loss_difference": max(differences.values()),
        "largest_at_step": max(differences, key=differences.__getitem__),
        "largest_by_world_size": {
            moved.world_size(attempt): max(differences[step] for step in lines[attempt]) for attempt in attempts
        },
        "first_loss": expected[1].loss,
        "last_loss": expected[STEPS].loss,
    }


def report(result: dict[str, Any]) -> str:
    """The figures for people."""
    by_size = ", ".join(f"{largest:.1e} with {size}" for size, largest in result["largest_by_world_size"].items())
    return "\n".join(
        [
            f"{' -> '.join(map(str, result['world_sizes']))} workers, stopped after steps "
            f"{' and '.join(map(str, result['stopped_after_steps']))} of {result['steps']}, "
            f"batches of {result['batch_sequences']} sequences, fp32:",
            f"  {result['different_batches']} batches differ; largest loss difference "
            f"{result['largest_loss_difference']:.1e} at step {result['largest_at_step']} ({by_size}; "
            f"loss {result['first_loss']:.4f} to {result['last_loss']:.4f})",
            f"bar: no batch, and at most {result['bar_loss_difference']:.0e}",
        ]
    )


if __name__ == "__main__":
    main()
