"""Time from making a loader at step 1,000,000 to the ids of its first batch, and to that batch.

    python -m benchmarks.seek [--repeats N] [--json]

Batches of 512 sequences of 1,024 tokens: by that step 524 billion tokens are read, thousands of epochs of what lies on
the disk here. Four cases: one local set, three mixed by weight, and the same out of sets of 10,000 shards, of which
only the metadata is real (every shard is a view of one token). Each is measured at step 0 too: a seek that walked
there would tell. The sets are open and were read before; medians over loaders made one after another. The bar for the
first batch at step 1,000,000 is 50 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import hardware
from benchmarks.loader import VOCAB_SIZE, random_tokens, write_set
from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.loader import BatchLoader
from trainer.data.shards import MappedShard
from trainer.data.split import Shard, TokenSplit

BAR_SECONDS = 0.05
STEPS = (0, 1_000_000)
BATCH = 512
LENGTH = 1024
WEIGHTS = (5.0, 3.0, 1.0)
NUM_SHARDS = 10_000
SHARD_TOKENS = 100_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="seeks to each position (default 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), options.repeats)
    print(json.dumps(result) if options.json else report(result))


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    """All cases at both steps."""
    tokens = random_tokens()
    for number, part in enumerate(np.array_split(tokens, len(WEIGHTS))):
        write_set(folder / str(number), part, shard_tokens=2_000_000)
    local = [
        open_tokens(Source(path=str(folder / str(k))), split="train", sequence_length=LENGTH, cache=CacheConfig())
        for k in range(len(WEIGHTS))
    ]
    large = [set_of_many_shards(str(k)) for k in range(len(WEIGHTS))]
    cases = {
        "one set": local[:1],
        "three sets": local,
        f"one of {NUM_SHARDS:,} shards": large[:1],
        f"three of {NUM_SHARDS:,} shards": large,
    }
    results = []
    for name, splits in cases.items():
        for step in STEPS:
            times = [seek(splits, step) for _ in range(repeats + 1)][1:]
            ids, batch = (statistics.median(values) for values in zip(*times, strict=True))
            results.append({"case": name, "step": step, "ids_seconds": ids, "batch_seconds": batch})
    return {"bar_seconds": BAR_SECONDS, "repeats": repeats, "results": results, "hardware": hardware()}


def seek(splits: list[TokenSplit], step: int) -> tuple[float, float]:
    """Seconds from nothing to the ids of the first batch, and to the batch itself, each with a loader of its own."""
    options: dict[str, Any] = {
        "batch_sequences": BATCH,
        "sequence_length": LENGTH,
        "seed": 1,
        "start_step": step,
        "weights": WEIGHTS[: len(splits)],
        "vocab_size": VOCAB_SIZE,
    }
    started = time.perf_counter()
    with BatchLoader(splits, **options) as loader:
        loader.batch_ids(step)
        ids = time.perf_counter() - started
    started = time.perf_counter()
    with BatchLoader(splits, **options) as loader:
        assert next(loader).step == step
        return ids, time.perf_counter() - started


def set_of_many_shards(name: str) -> TokenSplit:
    """A set as large as a real one, of which every shard is there when it is asked for."""
    shard = MappedShard([np.broadcast_to(np.uint16(1), SHARD_TOKENS)])
    shards = [Shard(str(number), SHARD_TOKENS, 2 * SHARD_TOKENS, lambda: shard) for number in range(NUM_SHARDS)]
    return TokenSplit(name, shards, fingerprint=name, sequence_length=LENGTH)


def report(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{row['case']}, step {row['step']:,}: ids after {row['ids_seconds'] * 1e3:.1f} ms, "
        f"batch after {row['batch_seconds'] * 1e3:.1f} ms"
        for row in result["results"]
    ]
    return "\n".join([*lines, f"bar: {BAR_SECONDS * 1e3:.0f} ms"])


if __name__ == "__main__":
    main()
