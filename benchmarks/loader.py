"""Tokens per second of the loader alone, per core, and its memory over three epochs.

    python benchmarks/loader.py [--json]

Writes 32M random tokens as a prepared set into a temporary folder, then reads batches in the training thread (0
workers) and with one worker thread. Per core means: divided by the CPU time used over the wall time. The bar, 364,000
tokens/s per core, is what four H100s consume at 91,000 tokens/s each. Memory is the resident set less the mapped files,
which the kernel may drop at any time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.loader import BatchLoader
from trainer.data.shards import DatasetInfo, ShardWriter, SplitInfo, TokenizerRecord, Tokens, write_dataset_json
from trainer.data.split import TokenSplit

BAR = 364_000
TOKENS = 32_000_000
DOCUMENT_TOKENS = 1000
BATCH_SEQUENCES = 64
VOCAB_SIZE = 50_304
EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as name:
        write_set(Path(name), random_tokens(), shard_tokens=8_000_000)
        results = [measure(Path(name), length=length, workers=workers) for length in (1024, 2048) for workers in (0, 1)]
    if as_json:
        print(json.dumps({"bar_tokens_per_second_per_core": BAR, "results": results}))
        return
    for result in results:
        memory = " ".join(f"{value:.1f}" for value in result["memory_mb_per_epoch"])
        print(
            f"T={result['sequence_length']} workers={result['workers']}: {result['tokens_per_second']:,.0f} tokens/s, "
            f"{result['tokens_per_second_per_core']:,.0f} per core (bar {BAR:,}); MB after each epoch: {memory}"
        )


def random_tokens() -> Tokens:
    """TOKENS of them, the same in every run."""
    return np.random.default_rng(1).integers(0, VOCAB_SIZE, TOKENS, dtype=np.uint16)


def write_set(folder: Path, tokens: Tokens, *, shard_tokens: int) -> None:
    """A prepared set of uint16 tokens, cut into documents of DOCUMENT_TOKENS."""
    with ShardWriter(folder, "train", dtype="uint16", shard_tokens=shard_tokens) as writer:
        for start in range(0, len(tokens), DOCUMENT_TOKENS):
            document = tokens[start : start + DOCUMENT_TOKENS]
            writer.add(document, 4 * len(document))
        shards = writer.close()
    write_dataset_json(
        folder,
        DatasetInfo(
            name="random",
            tokenizer=TokenizerRecord(name="none", fingerprint="", vocab_size=VOCAB_SIZE, eos_id=0),
            dtype="uint16",
            splits={"train": SplitInfo.of(shards)},
            created_at="1970-01-01T00:00:00+00:00",
        ),
    )


def measure(folder: Path, *, length: int, workers: int) -> dict[str, Any]:
    """Read EPOCHS epochs; the first one warms the page cache and is not timed."""
    split = open_tokens(Source(path=str(folder)), split="train", sequence_length=length, cache=CacheConfig())
    steps = split.num_samples // BATCH_SEQUENCES
    with loader_of(split, length, workers) as loader:
        memory = [run_epoch(loader, steps)]
        wall, cpu = time.perf_counter(), time.process_time()
        memory += [run_epoch(loader, steps) for _ in range(EPOCHS - 1)]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tokens = (EPOCHS - 1) * steps * BATCH_SEQUENCES * length
    return {
        "sequence_length": length,
        "workers": workers,
        "tokens_per_second": tokens / wall,
        "tokens_per_second_per_core": tokens / max(wall, cpu),
        "memory_mb_per_epoch": memory,
    }


def loader_of(split: TokenSplit, length: int, workers: int) -> BatchLoader:
    return BatchLoader(
        [split],
        batch_sequences=BATCH_SEQUENCES,
        sequence_length=length,
        seed=1,
        workers=workers,
        vocab_size=VOCAB_SIZE,
    )


def run_epoch(loader: BatchLoader, steps: int) -> float:
    """Consume an epoch; returns MB of private memory at its end."""
    for _ in range(steps):
        next(loader)
    info = psutil.Process().memory_info()
    return (info.rss - info.shared) / 1e6


if __name__ == "__main__":
    main()
