"""Losses over a large vocabulary in chunks of tokens: cross-entropy, and what others make of the same logits.

Called by the decoder with targets; `trainer.model.distillation` adds the comparison with a teacher.

The logits of a batch are its largest tensor: 32,768 tokens of 50,257 logits are 6.6 GB in fp32. Here those of one chunk
of tokens exist at a time, and gradients are computed while they do, so the backward pass only scales them.

Shapes: N tokens, C tokens of a chunk, D width, V vocabulary (rows of the head, padding included).
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.model.size import device_chunk_tokens

IGNORED_TARGET = -100
"""Target of a position that does not count: the value that PyTorch's own losses ignore by default."""


def chunked_cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    *,
    chunk_tokens: int | None = None,
    vocab_size: int | None = None,
) -> Tensor:
    """Sum over tokens of -log softmax(hidden @ weight^T)[target], in nats: a scalar, fp32 (fp64 for fp64 inputs).

    Targets equal to -100 count neither in the loss nor in gradients; rows of `weight_VD` from `vocab_size` on are
    padding that gets no probability and no gradient. `chunk_tokens` None picks a size by device and vocabulary.
    Differentiable once, with respect to `hidden_ND` and `weight_VD`.
    """
    objective = CrossEntropy(targets_N)
    return chunked_loss(hidden_ND, weight_VD, objective, chunk_tokens=chunk_tokens, vocab_size=vocab_size)


class Objective(Protocol):
    """A loss that can be told from the logits of one chunk of tokens at a time."""

    targets: Tensor
    """Next tokens' ids [N]; rows whose target is -100 count in nothing."""

    def __call__(self, logits_CV: Tensor, rows: slice, /, *, needs_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """The chunk's summed loss and its gradient by the logits [C, V], both in at least fp32.

        rows: which of the N tokens these are. Rows that do not count may have any gradient: the caller drops it.
        Logits of padding are -inf.
        """
        ...


class CrossEntropy:
    """-log softmax(logits)[target]."""

    def __init__(self, targets_N: Tensor) -> None:
        self.targets = targets_N
        # Serves every chunk: on a CPU, mapping fresh memory costs as much as filling it.
        self._probs_CV: Tensor | None = None

    def __call__(self, logits_CV: Tensor, rows: slice, /, *, needs_gradient: bool) -> tuple[Tensor, Tensor | None]:
        precise = torch.promote_types(logits_CV.dtype, torch.float32)
        targets_C = self.targets[rows]
        if self._probs_CV is None:
            self._probs_CV = logits_CV.new_empty(logits_CV.shape, dtype=precise)
        probs_CV = torch.softmax(logits_CV, -1, precise, out=self._probs_CV[: len(logits_CV)])
        counted_C1 = (targets_C != IGNORED_TARGET).unsqueeze(1)
        index_C1 = targets_C.clamp(min=0).unsqueeze(1)
        # Of the logarithm and the probabilities, which the gradient needs, one alone takes every logit's exponential.
        # A row's largest probability is at least 1 / V: its logarithm is exact where that of a target's may not be.
        below_C1 = logits_CV.gather(1, index_C1).to(precise) - logits_CV.amax(1, keepdim=True).to(precise)
        loss = -(below_C1 + probs_CV.amax(1, keepdim=True).log()).masked_fill_(~counted_C1, 0).sum()
        if not needs_gradient:
            return loss, None
        # d loss / d logits = softmax - one-hot(target).
        return loss, probs_CV.scatter_add_(1, index_C1, -counted_C1.to(precise))


def chunked_loss(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    objective: Objective,
    *,
    chunk_tokens: int | None = None,
    vocab_size: int | None = None,
) -> Tensor:
    """The objective's sum over tokens, from the logits hidden @ weight^T of one chunk at a time.

    The rest is as `chunked_cross_entropy` says.
    """
    chunk_tokens = chunk_tokens or default_chunk_tokens(hidden_ND, weight_VD)
    vocab_size = vocab_size or weight_VD.shape[0]
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad):
        loss: Tensor = _ChunkedLoss.apply(hidden_ND, weight_VD, objective, chunk_tokens, vocab_size)
        return loss
    return _loss_and_gradients(hidden_ND, weight_VD, objective, chunk_tokens, vocab_size, (False, False))[0]


class _ChunkedLoss(torch.autograd.Function):
    """Computes the gradients for an upstream gradient of 1 in the forward pass; backward multiplies by the real one."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, objective: Objective, chunk_tokens: int, vocab_size: int
    ) -> Tensor:
        loss, *gradients = _loss_and_gradients(
            hidden_ND, weight_VD, objective, chunk_tokens, vocab_size, ctx.needs_input_grad[:2]
        )
        ctx.save_for_backward(*gradients)
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        # Scaled in fp32: a factor rounded to bf16 would stretch all gradients of the model alike, and a sum over many
        # tokens may be too large for fp16 until the factor has made it small.
        grad_hidden_ND, grad_weight_VD = (
            None if gradient is None else (gradient.to(upstream.dtype) * upstream).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return grad_hidden_ND, grad_weight_VD, None, None, None


def _loss_and_gradients(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    objective: Objective,
    chunk_tokens: int,
    vocab_size: int,
    needs_gradient: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The summed loss and its gradients by hidden state and weight (None where not needed).

    The gradient by weight is left in the precision it was summed in, which is fp32 where there are several chunks.
    """
    precise = torch.promote_types(hidden_ND.dtype, torch.float32)
    several = len(hidden_ND) > chunk_tokens
    loss = torch.zeros((), dtype=precise, device=hidden_ND.device)
    grad_hidden_ND = torch.empty_like(hidden_ND) if needs_gradient[0] else None
    grad_weight_VD: Tensor | None = None
    logits_buffer_CV = hidden_ND.new_empty(min(chunk_tokens, len(hidden_ND)), weight_VD.shape[0])
    for start in range(0, len(hidden_ND), chunk_tokens):
        rows = slice(start, start + chunk_tokens)
        hidden_CD = hidden_ND[rows]
        logits_CV = torch.mm(hidden_CD, weight_VD.t(), out=logits_buffer_CV[: len(hidden_CD)])
        if vocab_size < weight_VD.shape[0]:
            logits_CV[:, vocab_size:] = -torch.inf
        chunk_loss, grad_logits_CV = objective(logits_CV, rows, needs_gradient=any(needs_gradient))
        loss += chunk_loss
        if grad_logits_CV is None:
            continue
        grad_logits_CV = logits_CV.copy_(grad_logits_CV) if logits_CV.dtype != precise else grad_logits_CV
        # Rows that do not count are zeroed where they are narrow.
        counted_C1 = (objective.targets[rows] != IGNORED_TARGET).unsqueeze(1)
        if grad_hidden_ND is not None:
            torch.mm(grad_logits_CV, weight_VD, out=grad_hidden_ND[rows]).mul_(counted_C1)
        if needs_gradient[1]:
            # Sums over chunks are kept in fp32: bf16 would lose small chunks' share (docs/decisions/chunked-loss.md).
            total_dtype = precise if several else weight_VD.dtype
            grad_weight_VD = _add_product(grad_weight_VD, grad_logits_CV.t(), hidden_CD * counted_C1, total_dtype)
    return loss, grad_hidden_ND, grad_weight_VD


def _add_product(total_VD: Tensor | None, left_VC: Tensor, right_CD: Tensor, dtype: torch.dtype) -> Tensor:
    """total + left @ right in `dtype`, in place; just the product when there is no total yet."""
    if total_VD is None:
        return torch.mm(left_VC, right_CD).to(dtype)
    if dtype == right_CD.dtype:
        return total_VD.addmm_(left_VC, right_CD)
    return total_VD.add_(torch.mm(left_VC, right_CD))


def default_chunk_tokens(hidden_ND: Tensor, weight_VD: Tensor) -> int:
    """Large enough that adding V * D gradients per chunk costs little beside its C * V logits; on a CPU, cached."""
    vocab_size, width = weight_VD.shape
    if hidden_ND.device.type == "cpu":
        return max(128, width // 2)
    return device_chunk_tokens(vocab_size)
