"""Wrap a decoder with FSDP2: one group per block, and one for embedding, final norm and head.

Called by the worker on a model built on the meta device, after recomputation and compilation were set (the order that
FSDP2 needs). Storage and values come afterwards, so no rank ever holds the whole model.
"""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from trainer.model.decoder import Decoder
from trainer.parallel.config import ParallelConfig, Precision
from trainer.parallel.precision import COMPUTE_DTYPE


def shard_model(model: Decoder, mesh: DeviceMesh, config: ParallelConfig, precision: Precision) -> None:
    """Shard `model` in place over `mesh`; parameters become DTensors in fp32, computed with in `precision`.

    A single rank in fp32 keeps plain tensors: there is nothing to share or to cast, and FSDP would copy all parameters
    and gradients in every pass (docs/decisions/single-rank.md).
    """
    dtype = COMPUTE_DTYPE[precision]
    if mesh.size() == 1 and dtype == torch.float32 and not config.offload:
        return
    reshard = config.shard in ("full", "hybrid")
    policy = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype,
        reduce_dtype=torch.float32,
        # The rope table stays fp32: angles of late positions do not fit into bfloat16.
        cast_forward_inputs=False,
    )
    offload: OffloadPolicy = (
        CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if config.offload else OffloadPolicy()
    )
    for block in model.blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=reshard, mp_policy=policy, offload_policy=offload)
    # The root's parameters are needed again at once by the backward pass of the head.
    fully_shard(model, mesh=mesh, reshard_after_forward=False, mp_policy=policy, offload_policy=offload)


def materialise(model: Decoder, *, device: torch.device, offload: bool) -> None:
    """Give a model on the meta device its storage; its values are still to come, from `initialise` or a checkpoint."""
    model.to_empty(device=torch.device("cpu") if offload else device)


def set_gradient_sync(model: torch.nn.Module, config: ParallelConfig, *, last: bool) -> None:
    """Say whether the coming backward pass is the `last` of a step, so that gradients are reduced once where that pays.

    `full` and `hybrid` reduce after every micro-batch: gradients of the whole model would not fit unsharded. The others
    hold whole gradients until the last one and save the communication.
    """
    if not isinstance(model, FSDPModule):
        return
    model.set_is_last_backward(last)
    if config.shard in ("grads_and_optimizer", "none"):
        model.set_requires_gradient_sync(last)
