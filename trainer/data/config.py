"""Settings of the data of a run: where tokens come from, how they are mixed, shuffled and read ahead.

`trainer.config` puts `DataConfig` under the key `data`; `trainer.data.dataset` opens the sources named here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.settings import Settings

GIB = 1024**3


class Source(Settings):
    """One set of tokens: a prepared folder, or raw token files as other projects write them."""

    path: str = Field(min_length=1)
    """Folder or file: a local path or any fsspec URL (s3://, gs://, abfs://, ...)."""
    format: Literal["auto", "arrow", "bin", "npy", "npz"] = "auto"
    """File format; `auto` looks for dataset.json first, then goes by the files' suffix."""
    split: str | None = None
    """Split to read; null means `train` under `train` and `validation` under `validation`."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Share of the sequences drawn from this source, relative to the other sources' weights."""

    @property
    def remote(self) -> bool:
        """Whether it streams through the cache."""
        scheme, found, _ = self.path.partition("://")
        return bool(found) and scheme not in ("file", "local")


class CacheConfig(Settings):
    """Bounded local cache for shards that are streamed from object storage."""

    path: str | None = None
    """Folder of the cache; null means `gpt-run/shards` under $XDG_CACHE_HOME or ~/.cache."""
    max_bytes: int = Field(default=16 * GIB, gt=0)
    """Upper bound of the cache's size in bytes; the least recently used shards are dropped first."""

    def folder(self) -> Path:
        """The folder in use, with the default resolved for this user."""
        if self.path is not None:
            return Path(self.path).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gpt-run" / "shards"


def _as_list(value: Any) -> Any:
    """Let a plain path or a single mapping stand for a list of one source."""
    items = value if isinstance(value, list | tuple) else [value]
    return [{"path": item} if isinstance(item, str) else item for item in items]


Sources = Annotated[
    tuple[Source, ...], BeforeValidator(_as_list, json_schema_input_type=str | Source | list[str | Source])
]


class DataConfig(Settings):
    """What a run trains and validates on, and how it is read."""

    train: Sources = Field(min_length=1)
    """Sources of training tokens: one path, one mapping, or a list of them, mixed by weight."""
    validation: Sources = ()
    """Sources of validation tokens; empty means the validation split of each training source that has one."""
    document_mask: bool = False
    """Tokens see only those of their own document, which the tokenizer's end-of-text token ends; false lets them see
    whatever lies before them in their sequence. Evaluation does the same."""
    shuffle_group_bytes: int = Field(default=GIB, gt=0)
    """Bytes of tokens within which sequences are shuffled together; part of what fixes the order of a run."""
    workers: int = Field(default=1, ge=0, le=64)
    """Threads per rank that assemble batches; 0 reads in the training thread."""
    prefetch_batches: int = Field(default=4, ge=1, le=1024)
    """Batches per rank that are kept ready ahead of the training step."""
    cache: CacheConfig = CacheConfig()
    """Local cache of remote shards."""

    @model_validator(mode="after")
    def _cache_holds_two_groups(self) -> Self:
        # Of each remote source, since each reads ahead by itself; with none, the settings still have to fit each other.
        sources = max(1, sum(source.remote for source in self.train))
        needed = 2 * self.shuffle_group_bytes * sources
        if self.cache.max_bytes < needed:
            each = f" of each of {sources} remote sources" if sources > 1 else ""
            raise ValueError(
                f"cache.max_bytes is {self.cache.max_bytes}, shuffle_group_bytes {self.shuffle_group_bytes}: the cache "
                f"must hold the group being read and the next one{each}; set cache.max_bytes to at least {needed} or "
                "make the groups smaller"
            )
        return self
