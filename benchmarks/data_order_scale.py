"""Order of the data at 1,024 ranks: what a rank pays to find its samples of a step, and that all ranks miss none.

    python -m benchmarks.data_order_scale [--json]

Loaders over three sources of 10,000 shards mixed by weight, of which only the metadata is real, are asked for each
rank's share of the first step, of step 10^6 and of step 10^9 (batches of 4,096 sequences of 1,024: 4e15 tokens in).
One rank in 64 has a new loader, which has to lay out the epoch first. The shares of all ranks of a step together are
looked at sample by sample. A small set is then walked from end to end: each of its samples once in an epoch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

from benchmarks.common import hardware
from benchmarks.seek import LENGTH, WEIGHTS, set_of_many_shards
from trainer.data.loader import BatchLoader
from trainer.data.order import Int64
from trainer.data.shards import MappedShard
from trainer.data.split import Shard, TokenSplit

BAR_SECONDS = 0.01
RANKS = 1024
BATCH = 4096
STEPS = (0, 10**6, 10**9)
SMALL_STEPS = 25
RANKS_OF_A_LOADER = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    splits = [set_of_many_shards(str(number)) for number in range(len(WEIGHTS))]
    results = [measure(splits, step) for step in STEPS]
    report = {"bar_seconds": BAR_SECONDS, "ranks": RANKS, "batch": BATCH, "hardware": hardware(), "results": results}
    report["epoch_is_exact"] = epoch_is_exact()
    if as_json:
        print(json.dumps(report))
        return
    for result in results:
        print(
            f"step {result['step']:>13,}: a rank's share after {result['median_seconds'] * 1e3:.2f} ms (slowest of "
            f"{RANKS} {result['max_seconds'] * 1e3:.2f}), the first of a new loader after "
            f"{result['first_seconds'] * 1e3:.1f} ms; {result['samples']} samples, {result['twice']} twice, "
            f"{result['missing']} missing"
        )
    print(f"an epoch of a small set gives each sample exactly once: {report['epoch_is_exact']}")


def measure(splits: list[TokenSplit], step: int) -> dict[str, Any]:
    """Times and shares of all ranks at a step."""
    shares, first, later = [], [], []
    for rank in range(RANKS):
        started = time.perf_counter()
        if rank % RANKS_OF_A_LOADER == 0:
            own = loader(splits, rank)
            share(own, step, rank)
            first.append(time.perf_counter() - started)
            started = time.perf_counter()
        shares.append(share(own, step, rank))
        later.append(time.perf_counter() - started)
    found, times = np.unique(np.concatenate(shares), axis=0, return_counts=True)
    wanted = np.unique(own.batch_ids(step), axis=0)
    missing = len(set(map(tuple, wanted.tolist())) - set(map(tuple, found.tolist())))
    return {
        "step": step,
        "first_seconds": statistics.median(first),
        "median_seconds": statistics.median(later),
        "max_seconds": max(later),
        "samples": int(times.sum()),
        "twice": int((times > 1).sum()),
        "missing": missing,
    }


def epoch_is_exact() -> bool:
    """Whether all ranks together read each sample of a small set once in its first, and once in its second epoch."""
    samples = SMALL_STEPS * BATCH
    shard = MappedShard([np.broadcast_to(np.uint16(1), samples * LENGTH + 1)])
    small = TokenSplit(
        "small",
        [Shard("0", samples * LENGTH + 1, 2 * samples * LENGTH, lambda: shard)],
        fingerprint="small",
        sequence_length=LENGTH,
    )
    own = loader([small], 0)
    for epoch in range(2):
        steps = range(epoch * SMALL_STEPS, (epoch + 1) * SMALL_STEPS)
        batches = [own.batch_ids(step) for step in steps]
        ids = np.concatenate([batch[rank::RANKS] for batch in batches for rank in range(RANKS)])
        if not np.array_equal(np.sort(ids[:, 1]), np.arange(samples)):
            return False
    return True


def loader(splits: list[TokenSplit], rank: int) -> BatchLoader:
    """A rank's loader; without threads, so that nothing has to be closed."""
    return BatchLoader(
        splits,
        batch_sequences=BATCH,
        sequence_length=LENGTH,
        seed=1,
        rank=rank,
        world_size=RANKS,
        weights=WEIGHTS[: len(splits)],
        workers=0,
    )


def share(own: BatchLoader, step: int, rank: int) -> Int64:
    """Rows (source, sample) that a rank reads of a step, as the loader cuts them."""
    return own.batch_ids(step)[rank::RANKS]


if __name__ == "__main__":
    main()
