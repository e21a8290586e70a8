"""Settings of the `checkpoint` part of a run file: where checkpoints go, how often, and which ones stay.

`trainer.config` composes `CheckpointConfig` into RunConfig; the Saver, the loader and retention read it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainer.settings import Settings


class KeepConfig(Settings):
    """Which committed checkpoints survive retention. The newest and every pinned one always do."""

    rolling: int = Field(default=3, ge=1)
    """Newest checkpoints to keep, in checkpoints."""
    best: int = Field(default=1, ge=0)
    """Checkpoints with the lowest validation loss to keep, in checkpoints; 0 keeps none for that reason."""
    epochs: bool | Annotated[int, Field(ge=0)] = False
    """Keep the last checkpoint of each finished epoch: true for all, a number for that many newest epochs."""


class CheckpointConfig(Settings):
    """When and where the run saves itself."""

    store: str = Field(default="./runs", min_length=1)
    """Any fsspec URL or folder (s3://, gs://, abfs://, a path); the run lives in `<store>/<run>`."""
    every_steps: int = Field(default=0, ge=0)
    """Optimizer steps between two saves; 0 saves by the other two and at the end only."""
    every_epochs: float = Field(default=0.0, ge=0.0)
    """Passes over the training set between two saves; 0 saves by the other two and at the end only."""
    every_seconds: float = Field(default=600.0, ge=0.0)
    """Seconds between two saves; 0 saves by steps, by epochs and at the end only."""
    keep: KeepConfig = KeepConfig()
    """Which checkpoints stay."""
    asynchronous: bool = True
    """Write in the background while training goes on; the step waits only for the copy into host memory."""
    streams: int = Field(default=4, ge=1, le=64)
    """Parallel streams per rank to and from the store, which is also the number of files a rank writes."""
    local: str | None = None
    """Folder on the node's own disk that keeps a copy of each save and caches what is read; null for none."""
