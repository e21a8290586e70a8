"""Cross-entropy over a large vocabulary in chunks of tokens; called by the decoder with targets.

The logits of a batch are its largest tensor: 32,768 tokens of 50,257 logits are 6.6 GB in fp32. Here the logits of a few
thousand tokens exist at a time, and their gradients are computed while they do, so the backward pass only scales them.

Shapes: N tokens, C tokens of a chunk, D width, V vocabulary (rows of the head, padding included).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED_TARGET = -100
"""Target of a position that does not count: the value that PyTorch's own losses ignore by default."""

_CHUNK_LOGITS_CPU = 4 * 1024**2
_CHUNK_LOGITS_DEVICE = 256 * 1024**2


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
    chunk_tokens = chunk_tokens or _default_chunk_tokens(hidden_ND, weight_VD)
    vocab_size = vocab_size or weight_VD.shape[0]
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad):
        loss: Tensor = _ChunkedCrossEntropy.apply(hidden_ND, weight_VD, targets_N, chunk_tokens, vocab_size)
        return loss
    return _loss_and_gradients(hidden_ND, weight_VD, targets_N, chunk_tokens, vocab_size, (False, False))[0]


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Computes the gradients for an upstream gradient of 1 in the forward pass; backward multiplies by the real one."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, chunk_tokens: int, vocab_size: int
    ) -> Tensor:
        loss, *gradients = _loss_and_gradients(
            hidden_ND, weight_VD, targets_N, chunk_tokens, vocab_size, ctx.needs_input_grad[:2]
        )
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        grad_hidden_ND, grad_weight_VD = (
            None if gradient is None else gradient * upstream.to(gradient.dtype) for gradient in ctx.saved_tensors
        )
        return grad_hidden_ND, grad_weight_VD, None, None, None


def _loss_and_gradients(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    chunk_tokens: int,
    vocab_size: int,
    needs_gradient: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The summed loss and its gradients by hidden state and weight (None where not needed)."""
    precise = torch.promote_types(hidden_ND.dtype, torch.float32)
    loss = torch.zeros((), dtype=precise, device=hidden_ND.device)
    grad_hidden_ND = torch.empty_like(hidden_ND) if needs_gradient[0] else None
    grad_weight_VD: Tensor | None = None
    chunks = zip(
        hidden_ND.split(chunk_tokens),
        targets_N.split(chunk_tokens),
        grad_hidden_ND.split(chunk_tokens) if grad_hidden_ND is not None else [None] * len(hidden_ND),
        strict=False,
    )
    several = len(hidden_ND) > chunk_tokens
    for hidden_CD, targets_C, grad_hidden_CD in chunks:
        logits_CV = hidden_CD @ weight_VD.t()
        logits_CV[:, vocab_size:] = -torch.inf
        log_probs_CV = torch.log_softmax(logits_CV, dim=-1, dtype=precise)
        counted_C1 = (targets_C != IGNORED_TARGET).unsqueeze(1)
        index_C1 = targets_C.clamp(min=0).unsqueeze(1)
        loss -= (log_probs_CV.gather(1, index_C1) * counted_C1).sum()
        if not any(needs_gradient):
            continue
        # d loss / d logits = softmax - one-hot(target), and 0 for a row that does not count.
        grad_logits_CV = log_probs_CV.exp_().scatter_add_(1, index_C1, -counted_C1.to(precise)).mul_(counted_C1)
        grad_logits_CV = grad_logits_CV.to(hidden_ND.dtype)
        if grad_hidden_CD is not None:
            torch.mm(grad_logits_CV, weight_VD, out=grad_hidden_CD)
        if needs_gradient[1]:
            grad_weight_VD = _accumulate(grad_weight_VD, grad_logits_CV, hidden_CD, precise if several else None)
    if grad_weight_VD is not None:
        grad_weight_VD = grad_weight_VD.to(weight_VD.dtype)
    return loss, grad_hidden_ND, grad_weight_VD


def _accumulate(total_VD: Tensor | None, grad_logits_CV: Tensor, hidden_CD: Tensor, precise: torch.dtype | None) -> Tensor:
    """total + grad_logits^T @ hidden."""
    if total_VD is None:
        first_VD = grad_logits_CV.t() @ hidden_CD
        return first_VD if precise is None else first_VD.to(precise)
    if total_VD.dtype == hidden_CD.dtype:
        return total_VD.addmm_(grad_logits_CV.t(), hidden_CD)
    return total_VD.add_(grad_logits_CV.t() @ hidden_CD)


def _default_chunk_tokens(hidden_ND: Tensor, weight_VD: Tensor) -> int:
    logits = _CHUNK_LOGITS_CPU if hidden_ND.device.type == "cpu" else _CHUNK_LOGITS_DEVICE
    return max(1, logits // weight_VD.shape[0])
