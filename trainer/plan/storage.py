"""What a run reads and writes: tokens, checkpoints, and what that asks of loader, network and store.

Pure; called by `trainer.plan.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config import RunConfig
from trainer.model.size import count_adapter_parameters, count_block_parameters, count_parameters

_FP32 = 4
# From GPU to pinned host memory over PCIe; and what a CPU's own copy reaches.
_STAGING_BYTES_PER_SECOND = 10e9
_UINT16_IDS = 65536


@dataclass(frozen=True)
class Storage:
    """Bytes and rates of data and checkpoints."""

    token_bytes: int
    """Of one token on disk."""
    loader_tokens_per_second: float
    """That one machine has to be fed with."""
    loader_bytes_per_second: float
    checkpoint_bytes: int
    """Weights and optimizer state in fp32."""
    checkpoint_seconds: float
    """From the step to the commit, all machines writing their share."""
    stall_seconds: float
    """That training waits for a save: the copy into host memory, or all of it where saves are not asynchronous."""


def checkpoint_bytes(config: RunConfig) -> int:
    """Weights and moments in fp32: 12 bytes per parameter with AdamW, 8 of Muon's matrices, 4 where frozen."""
    model = config.model
    padding = (1 if model.tied else 2) * (model.padded_vocab_size - model.vocab_size) * model.width
    parameters = count_parameters(model) + padding
    if config.lora is not None:
        return _FP32 * (parameters + 3 * count_adapter_parameters(model, config.lora))
    matrices = model.layers * count_block_parameters(model, matrices_only=True)
    return _FP32 * (3 * parameters - (matrices if config.optimizer.type == "muon" else 0))


def plan_storage(
    config: RunConfig, *, machines: int, ranks: int, tokens_per_second: float, store_bytes_per_second: float
) -> Storage:
    """Needs of a run on `ranks` GPUs in `machines` machines, each of which writes so fast to the store."""
    size = checkpoint_bytes(config)
    writing = size / machines / store_bytes_per_second
    staging = size / ranks / _STAGING_BYTES_PER_SECOND
    token_bytes = 2 if config.model.vocab_size <= _UINT16_IDS else 4
    return Storage(
        token_bytes=token_bytes,
        loader_tokens_per_second=tokens_per_second / machines,
        loader_bytes_per_second=tokens_per_second / machines * token_bytes,
        checkpoint_bytes=size,
        checkpoint_seconds=staging + writing,
        stall_seconds=staging if config.checkpoint.asynchronous else staging + writing,
    )
