"""A law fitted to small runs against a larger run that it never saw: `gpt-run sweep`, then `gpt-run scaling-law fit`.

    python -m benchmarks.scaling_law [--folder FOLDER] [--parallel N] [--json]

Nine GPT-2 models (three sizes times three lengths) are trained on text of this Python installation by one `gpt-run
sweep`; the law fitted to their validation losses foretells that of a model three times as large as the largest of them,
which is then trained. With `--folder` what was trained there before is taken over. Bar: within 3%.

Ten minutes on two cores. Shorter runs obey no such law: below a million tokens a larger model of this kind has the
higher loss, for want of steps. Nor do these quite; docs/decisions/sweeps.md says how far off they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import hardware

BAR = 0.03
PIPELINE = {
    "name": "text",
    "output": "data",
    "sources": [{"type": "python-library", "max_bytes": 30_000_000}],
    "tokenizer": {"type": "bpe", "vocab_size": 512, "sample_bytes": 2_000_000},
    "validation_fraction": 0.05,
}
RUN: dict[str, Any] = {
    "name": "law",
    "tokens": 1_048_576,
    "model": {"family": "gpt2", "vocab_size": 512, "context": 64, "layers": 2, "width": 16, "heads": 2},
    "sequence_length": 64,
    "batch": {"sequences": 8, "micro_sequences": 8},
    "data": {"train": "data"},
    "optimizer": {"type": "adamw", "lr": 1e-2},
    "schedule": {"type": "cosine", "warmup_steps": 20},
    "checkpoint": {"every_seconds": 0},
    # At the end alone.
    "evaluate": {"every_steps": 1_000_000, "sequences": 1024},
    "log": {"every_steps": 50, "profile_seconds": 0},
}
SIZES, LENGTHS = "model.width=8,16,32", "tokens=1048576,2097152,4194304"
HELD_OUT = ("model.width=64", "tokens=4194304")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep data and runs there")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            report = measure(Path(folder), options.parallel)
    else:
        options.folder.mkdir(parents=True, exist_ok=True)
        report = measure(options.folder, options.parallel)
    if options.json:
        print(json.dumps(report))
        return
    for point in report["points"]:
        print(f"{point['parameters']:>9,} {point['tokens']:>10,} loss {point['loss']:.4f} law {point['fitted']:.4f}")
    print(
        f"held out: {report['parameters']:,} parameters, {report['tokens']:,} tokens: loss {report['measured']:.4f}, "
        f"foretold {report['foretold']:.4f} (95%: {report['interval'][0]:.4f} to {report['interval'][1]:.4f}), "
        f"ratio {report['ratio']:.4f}"
    )


def measure(folder: Path, parallel: int) -> dict[str, Any]:
    """Train, fit, foretell, train what was foretold."""
    (folder / "pipeline.yaml").write_text(json.dumps(PIPELINE))
    (folder / "run.yaml").write_text(json.dumps(RUN))
    if not (folder / "data" / "dataset.json").exists():
        gpt_run(folder, "data", "prepare", "pipeline.yaml")
    sweep = ("sweep", "run.yaml", "--parallel", str(parallel), "--json")
    fitted = json.loads(gpt_run(folder, *sweep, "--over", SIZES, "--over", LENGTHS))
    held_out = json.loads(gpt_run(folder, *sweep, "--over", HELD_OUT[0], "--over", HELD_OUT[1]))
    runs = [f"runs/{name}" for row in fitted["rows"] for name in row["runs"]]
    (name,) = held_out["best"]["runs"]
    parameters, tokens = size_of(folder / "runs" / name)
    asked = ("--parameters", str(parameters), "--tokens", str(tokens))
    law = json.loads(gpt_run(folder, "scaling-law", "fit", *runs, *asked, "--json"))
    (prediction,) = law["predictions"]
    measured = held_out["best"]["validation_loss"]
    return {
        "bar": BAR,
        "hardware": hardware(),
        "parameters": parameters,
        "tokens": tokens,
        "measured": measured,
        "foretold": prediction["loss"],
        "interval": prediction["interval"],
        "ratio": prediction["loss"] / measured,
        "coefficients": {key: law[key] for key in ("irreducible", "a", "b", "alpha", "beta")},
        "largest_residual": law["largest_residual"],
        "points": law["points"],
    }


def size_of(run: Path) -> tuple[int, int]:
    """Parameters of a run's model, and the tokens that it was trained on."""
    from trainer.config_file import load_run_config
    from trainer.model.size import count_parameters

    (marker,) = run.glob("checkpoints/*/COMMITTED.json")
    config = load_run_config(str(run / "run.yaml"))
    return count_parameters(config.model), json.loads(marker.read_text())["tokens"]


def gpt_run(folder: Path, *arguments: str) -> str:
    """What the command printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "trainer", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout


if __name__ == "__main__":
    main()
