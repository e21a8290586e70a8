"""A small model taught by a larger one against the same model trained alone: validation loss after the same tokens.

    python -m benchmarks.distillation [--folder FOLDER] [--json]

A teacher (4 layers, 128 wide) trains for 1,500 steps on the Python library's sources; students (2 layers, 64 wide)
train for 800 steps on the same text, with `task: distill` at its defaults (alpha 0.5, temperature 2) and with `task:
pretrain`. Both sides see the same tokens in the same order with the same schedule, and choose their learning rate from
the same three by the mean validation loss of two seeds; three other seeds at that rate are compared. Tokens are
counted, not time: the taught side has its teacher's training and a forward pass per step on top. Bar: the taught
student's validation loss is lower with each seed. In a FOLDER that is kept, runs that have finished are not done again.
About a quarter of an hour on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.whole_run import environment

SEEDS = (1, 2, 3)
TUNING_SEEDS = (10, 11)
LEARNING_RATES = (2e-3, 4e-3, 8e-3)
STUDENT_STEPS, TEACHER_STEPS, SEQUENCES = 800, 1500, 8
PIPELINE = {
    "name": "python-library-part",
    "output": "text",
    "sources": [{"type": "python-library", "max_bytes": 3_000_000}],
    "tokenizer": {"type": "bpe", "vocab_size": 1024, "sample_bytes": 500_000},
    "validation_fraction": 0.05,
}
MODEL: dict[str, Any] = {"family": "gpt2", "vocab_size": 1024, "context": 128}
STUDENT = {**MODEL, "layers": 2, "width": 64, "heads": 2}
TEACHER = {**MODEL, "layers": 4, "width": 128, "heads": 4}
TEACHER_RATE = 3e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the runs here, and go on with those that are there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        result = compare(folder)
    print(json.dumps(result) if options.json else report(result))


def compare(folder: Path) -> dict[str, Any]:
    """All runs, one after another."""
    (folder / "pipeline.yaml").write_text(json.dumps(PIPELINE))
    command(folder, "data", "prepare", "pipeline.yaml")
    teacher_loss = train(folder, "teacher", TEACHER, steps=TEACHER_STEPS, rate=TEACHER_RATE, seed=TUNING_SEEDS[0])
    sides: dict[str, dict[str, Any]] = {
        "alone": {},
        "taught": {"task": "distill", "distill": {"teacher": "runs/teacher"}},
    }
    result: dict[str, Any] = {
        "teacher_loss": teacher_loss,
        "tokens": STUDENT_STEPS * SEQUENCES * MODEL["context"],
        "sides": {},
    }
    for side, changes in sides.items():
        tuned = {
            rate: statistics.mean(student(folder, side, changes, rate, seed) for seed in TUNING_SEEDS)
            for rate in LEARNING_RATES
        }
        rate = min(tuned, key=lambda rate: tuned[rate])
        losses = [student(folder, side, changes, rate, seed) for seed in SEEDS]
        result["sides"][side] = {"tuning": list(tuned.items()), "learning_rate": rate, "losses": losses}
    alone, taught = (result["sides"][side]["losses"] for side in sides)
    result["differences"] = [mine - other for mine, other in zip(taught, alone, strict=True)]
    return result


def student(folder: Path, side: str, changes: dict[str, Any], rate: float, seed: int) -> float:
    """The validation loss of one student."""
    name = f"{side}-{rate:g}-{seed}".replace(".", "-")
    return train(folder, name, STUDENT, steps=STUDENT_STEPS, rate=rate, seed=seed, **changes)


def train(
    folder: Path, name: str, model: dict[str, Any], *, steps: int, rate: float, seed: int, **changes: Any
) -> float:
    """Train to the end; the last validation loss."""
    run = {
        "name": name,
        "seed": seed,
        "steps": steps,
        "model": model,
        "sequence_length": MODEL["context"],
        "batch": {"sequences": SEQUENCES, "micro_sequences": SEQUENCES},
        "data": {"train": "text"},
        "optimizer": {"type": "adamw", "lr": rate},
        "schedule": {"type": "cosine", "warmup_steps": steps // 10},
        "checkpoint": {"every_steps": 400},
        "evaluate": {"every_steps": steps, "sequences": 256},
        **changes,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(run))
    command(folder, "train", f"{name}.yaml")
    lines = [
        json.loads(line)
        for file in sorted((folder / "runs" / name / "logs").glob("a*/training-*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    return float([line["validation_loss"] for line in lines if "validation_loss" in line][-1])


def command(folder: Path, *words: str) -> None:
    """A `gpt-run` command, whose output is for the one who waits."""
    subprocess.run(
        [sys.executable, "-m", "trainer", *words], cwd=folder, env=environment(), stdout=sys.stderr, check=True
    )


def report(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"validation loss after {result['tokens']:,} tokens (teacher {result['teacher_loss']:.3f}):"]
    for name, side in result["sides"].items():
        tuning = ", ".join(f"{rate:g}: {loss:.3f}" for rate, loss in side["tuning"])
        losses = ", ".join(f"{loss:.3f}" for loss in side["losses"])
        lines.append(
            f"  {name}: {losses}; mean {statistics.mean(side['losses']):.3f} at {side['learning_rate']:g} ({tuning})"
        )
    differences = ", ".join(f"{difference:+.3f}" for difference in result["differences"])
    return "\n".join([*lines, f"taught less alone: {differences}; bar: all below 0"])


if __name__ == "__main__":
    main()
