"""Memory that `gpt-run plan` foretells against torch's memory tracker: every preset, sharding and recomputation.

    python -m benchmarks.plan_memory [--json] [--preset NAME] [--layers N] [--keep FILE]

The tracker runs the real model, FSDP and optimizer on fake tensors (see plan_memory_tracker.py), so a step of 1.4B
parameters on 8 ranks needs no GPU; it takes one to three minutes each, 132 in all. `--layers 2` compares models cut
short, in seconds each. Peaks of eager blocks are compared, without the reserve for what no tracker sees. `--keep`
writes each peak to FILE as soon as it is known and goes on from there.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from benchmarks.common import hardware
from benchmarks.plan_memory_tracker import tracked_bytes
from trainer.config import RunConfig
from trainer.config_file import load_run_config
from trainer.plan.memory import plan_memory

BAR = 0.10
# GPUs of the run that each preset reproduces.
WORLDS = {
    "gpt2-124m": 4,
    "llama-1.36b": 4,
    "neox-1.4b": 2,
    "gpt-1b-h100": 8,
    "gpt2-1.36b": 4,
    "neox-1.4b-8gpu": 8,
    "gpt2-large": 8,
    "neox-1.4b-test": 1,
    "tiny-gpt2": 4,
    "tiny-llama": 4,
    "tiny-neox": 1,
}
SHARDINGS = ("full", "grads_and_optimizer", "hybrid", "none")
RECOMPUTES = ("none", "selective", "full")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--preset", action="append", choices=list(WORLDS), help="only this preset; may be repeated")
    parser.add_argument("--layers", type=int, metavar="N", help="cut every model to N blocks")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="JSON file of what torch measured, read and added to")
    options = parser.parse_args()
    known = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    results = []
    for recompute, shard, preset in itertools.product(RECOMPUTES, SHARDINGS, options.preset or WORLDS):
        config = _config(preset, shard, recompute, options.layers)
        ranks = {"world_size": WORLDS[preset], "local_world_size": _local_ranks(preset)}
        key = f"{preset} {shard} {recompute} {config.model.layers}"
        if key not in known:
            known[key] = tracked_bytes(config, **ranks)["Total"]
            if options.keep:
                options.keep.write_text(json.dumps(known, indent=1))
        plan = plan_memory(config, **ranks)
        results.append(
            {
                "preset": preset,
                "layers": config.model.layers,
                "shard": shard,
                "recompute": recompute,
                "ranks": WORLDS[preset],
                "tracked_bytes": known[key],
                "planned_bytes": plan.tracked,
                "moment": plan.moment,
                "ratio": plan.tracked / known[key],
            }
        )
        if not options.json:
            print(line(results[-1]), flush=True)
    worst = max(results, key=lambda result: abs(result["ratio"] - 1))
    report = {"bar": BAR, "hardware": hardware(), "worst_ratio": worst["ratio"], "results": results}
    if options.json:
        print(json.dumps(report))
    else:
        print(f"{len(results)} peaks, worst ratio {worst['ratio']:.3f} ({worst['preset']})")


def line(result: dict[str, Any]) -> str:
    """One row of the table."""
    return (
        f"{result['preset']:15} {result['layers']:2} layers  {result['ranks']} ranks  {result['shard']:19} "
        f"{result['recompute']:9} "
        f"tracker {result['tracked_bytes'] / 1e9:8.3f} GB  plan {result['planned_bytes'] / 1e9:8.3f} GB  "
        f"ratio {result['ratio']:.3f}"
    )


def _config(preset: str, shard: str, recompute: str, layers: int | None) -> RunConfig:
    changes = [f"parallel.shard={shard}", f"parallel.recompute={recompute}"]
    return load_run_config(preset, changes + ([f"model.layers={layers}"] if layers else []))


def _local_ranks(preset: str) -> int:
    """Two machines, so that hybrid has something to do; one for one rank."""
    return max(1, WORLDS[preset] // 2)


if __name__ == "__main__":
    main()
