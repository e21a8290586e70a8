"""Tokens per second on two CPU cores: this trainer, Accelerate with Transformers' GPT-2, and a plain loop.

    python -m benchmarks.throughput_cpu [--size 1m|10m|50m] [--rounds N] [--json]

The same GPT-2 in fp32 on all sides: the same sizes, batch, threads, attention kernel, fused AdamW and clipping, and
batches from the same file. This trainer runs as it does in a job of one rank, loader and all. Each side lives in a
process of its own; rounds are interleaved, and the ratio of a round is our tokens per second over the other side's.
Bar: a median ratio of at least 0.97 against the faster of the two.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import training_sides
from benchmarks.common import Side, Timing, interleave, measure_sizes, median_ratio, write_random_tokens
from benchmarks.training_sides import OURS, AccelerateLoop, PlainLoop, Size, ours, parameters

BAR = 0.97
THREADS = 2
DATA_TOKENS = 4_000_000

SIZES = {name: training_sides.SIZES[name] for name in ("1m", "10m", "50m")}


def main() -> None:
    measure_sizes(__doc__, SIZES, compare, print_table, bar_ratio=BAR, threads=THREADS)


def compare(size: Size, *, rounds: int) -> dict[str, Any]:
    """Measure all sides at one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_tokens(folder / "tokens.bin", vocab_size=size.vocab_size, tokens=DATA_TOKENS)
        sides = {
            OURS: Side(ours, size, folder, threads=THREADS),
            "accelerate": Side(AccelerateLoop, size, folder, threads=THREADS),
            "plain": Side(PlainLoop, size, folder, threads=THREADS),
        }
        try:
            # The first round allocates optimizer state and warms every cache; its losses are where the sides began.
            warm = interleave(sides, rounds=1, steps=max(2, size.steps_per_round))
            timings = interleave(sides, rounds=rounds, steps=size.steps_per_round)
        finally:
            for side in sides.values():
                side.close()
    return summarise(size, warm, timings)


def summarise(size: Size, warm: dict[str, list[Timing]], timings: dict[str, list[Timing]]) -> dict[str, Any]:
    """Medians over rounds; exits with 1 where a side did not learn."""
    tokens = size.steps_per_round * size.sequences * size.length
    seconds = {side: [timing.seconds for timing in list_] for side, list_ in timings.items()}
    losses = {side: (warm[side][0].losses[0], timings[side][-1].losses[-1]) for side in timings}
    stuck = [side for side, (first, last) in losses.items() if not last < first]
    if stuck:
        sys.exit(f"the loss of {', '.join(stuck)} did not go down: {losses}")
    ratios = {side: median_ratio(seconds[side], seconds[OURS]) for side in seconds if side != OURS}
    return {
        **asdict(size),
        "parameters": parameters(size),
        "rounds": len(seconds[OURS]),
        "tokens_per_second": {side: tokens / statistics.median(list_) for side, list_ in seconds.items()},
        "ratio": ratios,
        "ratio_to_faster": min(ratios.values()),
        "loss_first_last": losses,
    }


def print_table(name: str, result: dict[str, Any]) -> None:
    print(f"{name}: {result['parameters']:,} parameters, {result['sequences']} x {result['length']} tokens a step")
    for side, rate in result["tokens_per_second"].items():
        first, last = result["loss_first_last"][side]
        ratio = "" if side == OURS else f"  ours / this: {result['ratio'][side]:.3f}"
        print(f"  {side:12} {rate:10,.0f} tokens/s  loss {first:.2f} -> {last:.2f}{ratio}")
    print(f"  against the faster: {result['ratio_to_faster']:.3f} (bar {BAR})", flush=True)


if __name__ == "__main__":
    main()
