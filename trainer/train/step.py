"""One optimizer step: micro-batches, gradients, the global loss and norm, clipping, the update.

Called by the loop. The loss of a step is the sum over all target tokens of the global batch divided by their number,
whatever the number of ranks: each rank weighs its own sums accordingly, and a rank that has run out of sequences runs a
micro-batch of weight zero so that collectives match.

Shape suffixes: B = sequences, T = tokens of a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from trainer.model.decoder import Decoder
from trainer.parallel.config import ParallelConfig
from trainer.parallel.fsdp import set_gradient_sync
from trainer.parallel.precision import LossScaler
from trainer.train.optimizer import Optimizers, global_grad_norm


@dataclass(frozen=True)
class StepResult:
    """What one step found; equal on every rank."""

    loss: float
    """Mean cross-entropy over the whole global batch, nats per token."""
    grad_norm: float
    """Global gradient norm before clipping."""

    @property
    def finite(self) -> bool:
        """Whether the update was applied."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass(frozen=True)
class StepContext:
    """What stays the same from step to step."""

    model: Decoder
    optimizers: Optimizers
    parallel: ParallelConfig
    device: torch.device
    world_size: int
    batch_sequences: int
    micro_sequences: int
    clip_norm: float
    scaler: LossScaler | None


def train_step(context: StepContext, rows: np.ndarray) -> StepResult:
    """Forward, backward and update with this rank's `rows` [n, T+1] of the global batch.

    A step whose loss or gradient norm is not finite leaves the model as it was.
    """
    loss = _accumulate_gradients(context, rows)
    parameters = list(context.model.parameters())
    if context.scaler is not None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(1 / context.scaler.scale)
    norm = global_grad_norm(parameters)
    # One wait for the device per step: the figures decide whether to update.
    result = StepResult(*torch.stack([loss, norm.to(loss)]).tolist())
    if result.finite:
        if context.clip_norm and result.grad_norm > context.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, context.clip_norm, norm)
        context.optimizers.step()
    context.optimizers.zero_grad()
    if context.scaler is not None:
        context.scaler.update(finite=result.finite)
    return result


def micro_batches(rows: np.ndarray, *, most_rows: int, micro_sequences: int) -> Iterator[tuple[np.ndarray, float]]:
    """Split a rank's rows into (rows, weight); every rank yields as many as one with `most_rows` rows needs.

    A rank without rows left yields one row of zeros with weight 0.
    """
    for start in range(0, most_rows, micro_sequences):
        part = rows[start : start + micro_sequences]
        if len(part):
            yield part, 1.0
        else:
            yield np.zeros((1, rows.shape[1]), dtype=rows.dtype), 0.0


def _accumulate_gradients(context: StepContext, rows: np.ndarray) -> Tensor:
    """Run all micro-batches; returns the mean loss of the global batch, a float64 scalar equal on every rank."""
    most_rows = -(-context.batch_sequences // context.world_size)
    parts = list(micro_batches(rows, most_rows=most_rows, micro_sequences=context.micro_sequences))
    target_tokens: int = context.batch_sequences * (rows.shape[1] - 1)
    # FSDP averages gradients over ranks; the loss is a sum over them.
    scale = context.world_size / target_tokens * (context.scaler.scale if context.scaler else 1.0)
    loss_sum = torch.zeros((), dtype=torch.float64, device=context.device)
    for number, (part, weight) in enumerate(parts, start=1):
        set_gradient_sync(context.model, context.parallel, last=number == len(parts))
        tokens_BT = to_device(part, context.device)
        micro_loss: Tensor = context.model(tokens_BT[:, :-1], tokens_BT[:, 1:])
        (micro_loss * (weight * scale)).backward()
        loss_sum += micro_loss.detach() * weight
    if context.world_size > 1:
        dist.all_reduce(loss_sum)
    return loss_sum / target_tokens


def to_device(rows: np.ndarray, device: torch.device) -> Tensor:
    """Token ids on the device; from pinned memory, so that the copy overlaps with the work before it."""
    tokens_BT = torch.from_numpy(rows)
    if device.type == "cuda":
        return tokens_BT.pin_memory().to(device, non_blocking=True)
    return tokens_BT
