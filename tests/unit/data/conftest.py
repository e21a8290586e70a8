"""Small token sets on disk. Token number k of a set is k modulo the vocabulary, so content shows position."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainer.data.shards import DatasetInfo, ShardWriter, SplitInfo, TokenizerRecord, write_dataset_json

WriteSet = Callable[..., DatasetInfo]


@pytest.fixture
def write_set() -> WriteSet:
    """Write a prepared set whose splits have these documents' lengths, and return its description."""

    def write(
        folder: Path,
        *,
        shard_tokens: int = 50,
        batch_tokens: int = 20,
        vocab_size: int = 1000,
        **splits: list[int],
    ) -> DatasetInfo:
        described = {}
        for name, lengths in splits.items():
            with ShardWriter(
                folder, name, dtype="uint16", shard_tokens=shard_tokens, batch_tokens=batch_tokens
            ) as writer:
                start = 0
                for length in lengths:
                    writer.add(np.arange(start, start + length) % vocab_size, text_bytes=3 * length)
                    start += length
                described[name] = SplitInfo.of(writer.close())
        return write_dataset_json(
            folder,
            DatasetInfo(
                name="counting",
                tokenizer=TokenizerRecord(name="none", fingerprint="f", vocab_size=vocab_size, eos_id=0),
                dtype="uint16",
                splits=described,
                created_at="2026-01-01T00:00:00+00:00",
            ),
        )

    return write
