"""What a data set holds: totals, shards, hashes that were checked, and a piece of its text.

Called by `gpt-run data inspect`, for prepared sets and raw token files alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens, splits_of
from trainer.data.remote import locate
from trainer.data.shards import DATASET_FILE, DatasetInfo, file_sha256, load_dataset_json
from trainer.data.split import TokenSplit
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import UserError

SAMPLE_TOKENS = 64
HASH_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class SplitReport:
    """Totals of one split; None where a raw file does not say."""

    name: str
    tokens: int
    shards: int
    documents: int | None
    bytes_per_token: float | None
    sample: str
    """The first tokens: as text where the tokenizer is there, else as ids."""


@dataclass(frozen=True)
class Report:
    """A data set at a glance."""

    path: str
    name: str | None
    fingerprint: str
    vocab_size: int | None
    splits: tuple[SplitReport, ...]
    verified_shards: int | None
    """Shards whose hash was compared; None where that was not asked for."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def as_text(self) -> str:
        """For people."""
        lines = [
            f"{self.path}: {self.name or 'raw token files'}",
            f"  fingerprint  {self.fingerprint}",
            f"  vocabulary   {self.vocab_size or 'unknown'}",
        ]
        for split in self.splits:
            documents = "" if split.documents is None else f", {split.documents:,} documents"
            density = "" if split.bytes_per_token is None else f", {split.bytes_per_token:.2f} bytes per token"
            lines.append(f"  {split.name:<12} {split.tokens:,} tokens in {split.shards} shards{documents}{density}")
            lines.append(f"    {split.sample!r}")
        if self.verified_shards is not None:
            lines.append(f"  verified     {self.verified_shards} shards have the hash that {DATASET_FILE} says")
        return "\n".join(lines)


def inspect_data(path: str, *, verify: bool = False) -> Report:
    """Look into a data set. With `verify` every shard is read and hashed; a wrong one is a UserError that names it."""
    source = Source(path=path)
    info = _description(path)
    opened = {
        name: open_tokens(source, split=name, sequence_length=1, cache=CacheConfig()) for name in splits_of(source)
    }
    first = next(iter(opened.values()))
    return Report(
        path=path,
        name=info.name if info else None,
        fingerprint=first.fingerprint,
        vocab_size=first.vocab_size,
        splits=tuple(_report(name, split, info) for name, split in opened.items()),
        verified_shards=_verify(path, info) if verify else None,
    )


def _description(path: str) -> DatasetInfo | None:
    where = locate(path).join(DATASET_FILE)
    return load_dataset_json(where.read(), where.url) if where.info() is not None else None


def _report(name: str, split: TokenSplit, info: DatasetInfo | None) -> SplitReport:
    return SplitReport(
        name=name,
        tokens=split.num_tokens,
        shards=len(split.shard_samples),
        documents=info.splits[name].documents if info else None,
        bytes_per_token=split.bytes_per_token,
        sample=_sample(split),
    )


def _sample(split: TokenSplit) -> str:
    # Opened with sequence length 1: a sample is a token and the one after it.
    ids = np.arange(min(SAMPLE_TOKENS, split.num_samples), dtype=np.int64)
    rows = np.empty((len(ids), 2), dtype=np.int64)
    split.read(ids, rows)
    tokens = rows[:, 0].tolist()
    if split.tokenizer is None or split.tokenizer.path is None:
        return " ".join(str(token) for token in tokens)
    return str(load_tokenizer(split.tokenizer.path).decode(tokens, skip_special_tokens=False))


def _verify(path: str, info: DatasetInfo | None) -> int:
    if info is None:
        raise UserError(
            f"{path} has no {DATASET_FILE} to verify against",
            expected="a prepared data set, whose shards have known hashes",
            fix="leave out --verify: headers and sizes of raw files were checked already",
        )
    root = locate(path)
    shards = [shard for split in info.splits.values() for shard in split.shards]
    for shard in shards:
        location = root.join(shard.file)
        local = location.local
        if local is not None:
            found = file_sha256(local)
        else:
            with location.open() as file:
                digest = hashlib.sha256()
                while block := file.read(HASH_BLOCK_BYTES):
                    digest.update(block)
                found = digest.hexdigest()
        if found != shard.sha256:
            raise UserError(
                f"shard {location.url} has sha256 {found}",
                expected=f"sha256 {shard.sha256}, as {DATASET_FILE} says",
                fix="copy the shard again, or delete it and prepare the data set again",
            )
    return len(shards)
