"""Memory of a training step by torch's own trackers: the oracle of plan_memory.py. Needs no GPU and little memory.

The real decoder, FSDP and optimizers run a step on fake tensors over a fake process group of any size. Fake tensors on
a CUDA device need a driver in the backward pass, so they lie on the CPU, and the two operations for which PyTorch has
other kernels there are replaced by those of GPUs: attention and RMSNorm. Only buffer sizes are kept, never values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional as F
from torch.testing._internal.distributed.fake_pg import FakeStore

from trainer.config import RunConfig
from trainer.model.decoder import Decoder
from trainer.model.size import device_chunk_tokens
from trainer.parallel.fsdp import set_gradient_sync, shard_model
from trainer.parallel.mesh import make_mesh
from trainer.train.optimizer import build_optimizers


def tracked_bytes(config: RunConfig, *, world_size: int, local_world_size: int | None = None) -> dict[str, int]:
    """Bytes on rank 0 at the peak of a later step, by the tracker's categories and as `Total`."""
    with _fake_ranks(world_size), gpu_kernels():
        mesh = make_mesh(
            config.parallel, world_size=world_size, local_world_size=local_world_size or world_size, device_type="cpu"
        )
        with FakeTensorMode(allow_non_fake_inputs=True):
            model = Decoder(
                config.model,
                recompute=config.parallel.recompute,
                loss_chunk_tokens=device_chunk_tokens(config.model.padded_vocab_size),
            )
            shard_model(model, mesh, config.parallel, config.precision)
            return _track(config, model, world_size)


def _track(config: RunConfig, model: Decoder, world_size: int) -> dict[str, int]:
    optimizers = build_optimizers(model, config.optimizer)
    shape = (config.batch.micro_sequences, config.sequence_length)
    rank_sequences = -(-config.batch.sequences // world_size)
    # Two micro-batches behave like many.
    micro_batches = min(2, -(-rank_sequences // config.batch.micro_sequences))
    # The optimizer's state exists from the first step on; the peak is that of a later one.
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    # The update itself is left out: fake tensors have it copy all it changes, which the fused kernel does in place.
    optimizers.step()
    optimizers.zero_grad()
    tracker = FSDPMemTracker(model, optimizers.optimizers[0]) if isinstance(model, FSDPModule) else MemTracker()
    if not isinstance(tracker, FSDPMemTracker):
        tracker.track_external(model, *optimizers.optimizers)
    with tracker:
        for number in range(1, micro_batches + 1):
            set_gradient_sync(model, config.parallel, last=number == micro_batches)
            tokens_BT = torch.zeros(shape, dtype=torch.int64)
            targets_BT = torch.zeros(shape, dtype=torch.int64)
            model(tokens_BT, targets_BT).backward()
            tracker.reset_mod_stats()
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    return {str(getattr(key, "value", key)): size for key, size in peak.items()}


@contextmanager
def _fake_ranks(world_size: int) -> Iterator[None]:
    dist.init_process_group("fake", rank=0, world_size=world_size, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def gpu_kernels() -> Iterator[None]:
    """Attention and RMSNorm by the operations that GPUs have for them."""

    def flash(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, **_options: Any) -> Tensor:
        result: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, is_causal)[0]
        return result

    def fused_rms_norm(features: Tensor, _shape: Any, weight: Tensor, _eps: float) -> Tensor:
        result: Tensor = _FusedRmsNorm.apply(features, weight)
        return result

    with patch.multiple(F, scaled_dot_product_attention=flash, rms_norm=fused_rms_norm):
        yield


class _FusedRmsNorm(torch.autograd.Function):
    """The buffers of the CUDA kernel, which keeps its input and one fp32 value per row; the values are never computed.

    The operation itself cannot be called: off a GPU it falls apart into others before autograd sees it.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(features, features.new_empty((*features.shape[:-1], 1), dtype=torch.float32), weight)
        return torch.empty_like(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        _features, _scale, weight = ctx.saved_tensors
        return torch.empty_like(gradient), torch.empty_like(weight)
