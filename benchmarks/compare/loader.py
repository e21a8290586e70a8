"""Loader: tokens per second from an S3 server and from what was left on disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.compare.measurement import Measurement, Part, Report
from benchmarks.compare.turns import complaint
from benchmarks.environments import peer_python
from benchmarks.hosts import HostFailed
from benchmarks.loader_remote import BAR_RATIO, DATASETS, MODES, PEERS, memory_folder
from benchmarks.loader_remote import measure as measure_remote

ROUNDS = 3
SHARDS = 2


def measure(quick: bool) -> Report:
    """As `benchmarks.loader_remote` does it, with fewer shards."""
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        found = measure_remote(
            Path(folder),
            peer_python("loader"),
            shards=1 if quick else SHARDS,
            rounds=1 if quick else ROUNDS,
            peer_workers=[os.cpu_count() or 1],
            peers=(*PEERS, DATASETS),
        )
    return Report(
        [
            Measurement(
                f"loader, {'empty cache' if mode == 'cold' else 'warm cache'}",
                "million tokens/s",
                True,
                {
                    # With how many workers is said once, in the settings.
                    side.split(",")[0]: [found["tokens"] / 1e6 / seconds for seconds in spent]
                    for side, spent in found[mode]["seconds"].items()
                },
                bar=BAR_RATIO,
                digits=1,
            )
            for mode in MODES
        ],
        {peer: complaint(HostFailed(words)) for peer, words in found["absent"].items()},
    )


PART = Part(
    title="Loader",
    settings="Random tokens on an S3 server of this machine, one epoch, shuffled, in batches of 32 sequences of 2,048 "
    "tokens as int64; each library's own format and recommended settings, the peers with a DataLoader worker "
    "per core. Ours checks the hash of every shard, the peers check none. Hugging Face datasets turns Parquet "
    "into the Arrow files of its cache and maps those. Empty: the set is opened and its shards are fetched. "
    "Warm: another process reads what that left.",
    measure=measure,
)
