"""Memory that `gpt-run plan` foretells against torch's memory tracker: every preset, sharding and recomputation.

    python -m benchmarks.plan_memory [--json] [--preset NAME] [--keep FILE]

The tracker runs the real model, FSDP and optimizer on fake tensors (see plan_memory_tracker.py), so a step of 1.4B
parameters on 8 ranks needs no GPU; it takes about a minute each. Peaks of eager blocks are compared, without the
reserve for what no tracker sees. `--keep` writes each peak to FILE as soon as it is known and goes on from there.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from benchmarks.common import hardware
from benchmarks.plan_memory_tracker import tracked_bytes
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
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--preset", action="append", choices=list(WORLDS))
    parser.add_argument("--keep", type=Path, metavar="FILE")
    options = parser.parse_args()
    known = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    results = []
    for recompute, shard, preset in itertools.product(RECOMPUTES, SHARDINGS, options.preset or WORLDS):
        key = f"{preset} {shard} {recompute}"
        if key not in known:
            known[key] = _tracked(preset, shard, recompute)
            if options.keep:
                options.keep.write_text(json.dumps(known, indent=1))
        results.append(_compare(preset, shard, recompute, known[key]))
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
        f"{result['preset']:15} {result['ranks']} ranks  {result['shard']:19} {result['recompute']:9} "
        f"tracker {result['tracked_bytes'] / 1e9:8.3f} GB  plan {result['planned_bytes'] / 1e9:8.3f} GB  "
        f"ratio {result['ratio']:.3f}"
    )


def _config(preset: str, shard: str, recompute: str) -> Any:
    return load_run_config(preset, [f"parallel.shard={shard}", f"parallel.recompute={recompute}"])


def _local_ranks(preset: str) -> int:
    """Two machines, so that hybrid has something to do; one for one rank."""
    return max(1, WORLDS[preset] // 2)


def _tracked(preset: str, shard: str, recompute: str) -> int:
    config = _config(preset, shard, recompute)
    return tracked_bytes(config, world_size=WORLDS[preset], local_world_size=_local_ranks(preset))["Total"]


def _compare(preset: str, shard: str, recompute: str, tracked: int) -> dict[str, Any]:
    plan = plan_memory(
        _config(preset, shard, recompute), world_size=WORLDS[preset], local_world_size=_local_ranks(preset)
    )
    return {
        "preset": preset,
        "shard": shard,
        "recompute": recompute,
        "ranks": WORLDS[preset],
        "tracked_bytes": tracked,
        "planned_bytes": plan.tracked,
        "moment": plan.moment,
        "ratio": plan.tracked / tracked,
    }


if __name__ == "__main__":
    main()
