"""Settings of sharding, offload, recomputation and compilation; read by `trainer.parallel` and the decoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.settings import Settings

Precision = Literal["fp32", "bf16", "fp16", "fp8"]


class ParallelConfig(Settings):
    """How parameters, gradients and optimizer state are spread over ranks."""

    shard: Literal["full", "grads_and_optimizer", "hybrid", "none"] = "full"
    """What is sharded: `full` parameters, gradients and optimizer state (ZeRO-3); `grads_and_optimizer` keeps
    parameters gathered between forward and backward (ZeRO-2, faster up to about 2B parameters); `hybrid` shards inside
    a group of `hybrid_ranks` and replicates across groups; `none` replicates everything."""
    hybrid_ranks: int | None = Field(default=None, ge=1)
    """Ranks in one sharding group of `hybrid`; by default the ranks of one node."""
    offload: bool = False
    """Keep parameters, gradients and optimizer state in CPU memory and move parameters to the GPU for each block."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activations to compute again in the backward pass: `none`; `selective` keeps matrix products and attention;
    `full` keeps only the input of each block."""
    compile: bool = False
    """Compile each block with torch.compile; falls back to eager execution, and says so, when that fails."""
    compile_cache: str | None = None
    """Folder of the persistent compile cache; by default `gpt-run/compile` in the user's cache folder."""
