"""One optimizer step: micro-batches, gradients, the global loss and norm, clipping, the update.

Called by the loop. The loss of a step is the sum over all target tokens of the global batch divided by their number,
whatever the number of ranks: each rank weighs its own sums accordingly, and a rank that has run out of sequences runs a
micro-batch of weight zero so that collectives match. What ranks tell each other travels with the loss: a collective of
its own would cost every step another round trip, and on a GPU another wait for the device. So does the number of
targets where it differs from batch to batch: gradients are first weighed as if every token counted, and put right once
all ranks have told their counts.

Shape suffixes: B = sequences, T = tokens of a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from trainer.data.teacher_logits import Entries
from trainer.evaluate.inputs import model_inputs
from trainer.metrics.step_sample import StepSample
from trainer.model.decoder import Decoder
from trainer.model.distillation import PARTS
from trainer.parallel.config import ParallelConfig
from trainer.parallel.fsdp import set_gradient_sync
from trainer.parallel.precision import LossScaler
from trainer.train.optimizer import Optimizers, global_grad_norm
from trainer.train.teacher import Teacher


@dataclass(frozen=True)
class Flags:
    """What ranks tell each other with every step: true on all of them once it is true on one."""

    stop: bool = False
    """Somebody asked for a stop."""
    fenced: bool = False
    """A save met a newer attempt."""
    save: bool = False
    """A save is due by rank 0's clock: no other rank raises this."""
    profile: bool = False
    """The next step is to be profiled, by rank 0's clock as well."""

    def packed(self) -> float:
        """All flags as one number. The sum over up to 65,535 ranks keeps them apart, and is exact in a float64."""
        return float(sum(flag << shift for flag, (shift, _) in zip(astuple(self), _FLAG_BITS, strict=True)))

    @classmethod
    def unpacked(cls, total: float) -> Flags:
        """The flags that any rank raised, from the sum of all ranks' numbers."""
        return cls(*(bool(int(total) >> shift & (1 << bits) - 1) for shift, bits in _FLAG_BITS))


# First bit and number of bits of each; what rank 0 alone raises needs few, and a float64 holds 53.
_FLAG_BITS = ((0, 16), (16, 16), (32, 8), (40, 8))


@dataclass(frozen=True)
class StepResult:
    """What one step found; equal on every rank."""

    loss: float
    """Mean loss over the whole global batch, nats per token: cross-entropy, or what a teacher makes of it."""
    grad_norm: float
    """Global gradient norm before clipping."""
    flags: Flags
    parts: dict[str, float]
    """With a teacher the parts of the loss, per token, by their names in log lines (`PARTS`)."""

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
    packed: bool = False
    """Rows have marks (`trainer.data.marks`): only some of their tokens count in the loss."""
    teacher: Teacher | None = None


def train_step(
    context: StepContext,
    rows: np.ndarray,
    flags: Callable[[], Flags],
    sample: StepSample | None = None,
    before_update: Callable[[], None] | None = None,
    entries: Entries | None = None,
) -> StepResult:
    """Forward, backward and update with this rank's `rows` [n, T+1] of the global batch, with marks if it is packed.

    flags: asked for this rank's own once its backward is on the way. sample: of a step that is profiled. A step whose
    loss or gradient norm is not finite leaves the model as it was; in all others `before_update` is called with the
    gradients before clipping, and may be collective. entries: what a teacher wrote of the rows, where it did.
    """
    sums = _accumulate_gradients(context, rows, entries)
    shared = share(sums, flags(), context.world_size)
    if sample is not None:
        sample.forward_backward_ends()
    parameters = list(context.model.parameters())
    if context.scaler is not None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(1 / context.scaler.scale)
    norm = global_grad_norm(parameters)
    # One wait for the device per step: the figures decide whether to update.
    loss_total, *more, told, grad_norm = torch.cat([shared, norm.to(shared).reshape(1)]).tolist()
    most_targets = context.batch_sequences * (rows.shape[1] - 1)
    targets = more[0] if context.packed else most_targets
    weight = most_targets / targets
    parts = {} if context.teacher is None else {name: total / targets for name, total in zip(PARTS, more, strict=True)}
    result = StepResult(loss_total / targets, grad_norm * weight, Flags.unpacked(told), parts)
    if result.finite:
        if context.packed:
            norm = norm * weight
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(weight)
        if before_update is not None:
            before_update()
        if context.clip_norm and result.grad_norm > context.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, context.clip_norm, norm)
        context.optimizers.step()
    context.optimizers.zero_grad()
    if context.scaler is not None:
        context.scaler.update(finite=result.finite)
    return result


def share(sums: Tensor, flags: Flags, world_size: int) -> Tensor:
    """Add up this rank's sums (float64 [k]) and its packed flags over all ranks: float64 [k + 1].

    Flags are packed since gloo takes twice as long for four numbers as for two.
    """
    packed = to_device(np.array([flags.packed()]), sums.device)
    shared = torch.cat([sums, packed])
    if world_size > 1:
        dist.all_reduce(shared)
    return shared


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


def _accumulate_gradients(context: StepContext, rows: np.ndarray, entries: Entries | None) -> Tensor:
    """Run all micro-batches; sums over this rank's targets, float64: the losses, then their number if packed, or the
    parts of a taught loss.
    """
    most_rows = -(-context.batch_sequences // context.world_size)
    parts = list(micro_batches(rows, most_rows=most_rows, micro_sequences=context.micro_sequences))
    most_targets: int = context.batch_sequences * (rows.shape[1] - 1)
    # FSDP averages gradients over ranks; the loss is a sum over them.
    scale = context.world_size / most_targets * (context.scaler.scale if context.scaler else 1.0)
    more = 1 if context.packed else len(PARTS) if context.teacher is not None else 0
    sums = torch.zeros(1 + more, dtype=torch.float64, device=context.device)
    for number, (part, weight) in enumerate(parts, start=1):
        set_gradient_sync(context.model, context.parallel, last=number == len(parts))
        inputs = model_inputs(to_device(part, context.device), packed=context.packed)
        lesson = None
        if context.teacher is not None:
            first = (number - 1) * context.micro_sequences
            said = entries[first : first + len(part)] if entries is not None else None
            lesson = context.teacher.lesson(inputs.tokens, said)
        micro_loss: Tensor = context.model(*inputs, lesson=lesson)
        (micro_loss * (weight * scale)).backward()
        sums[0] += micro_loss.detach() * weight
        if context.packed:
            sums[1] += inputs.count_targets() * weight
        elif lesson is not None:
            sums[1:] += lesson.parts * weight
    return sums


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A small array on the device; from pinned memory, so that the copy overlaps with the work before it."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor
