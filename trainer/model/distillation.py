"""What a student learns from a teacher: soft targets and hidden states, from the logits of one chunk at a time.

The train step gives the decoder a `Lesson` with each micro-batch; `trainer.train.teacher` makes it, from a teacher in
memory or from logits that were written before. The logits of neither model are ever whole.

Shapes: N tokens, C tokens of a chunk, D width of the student, E width of the teacher, V vocabulary (W with the
student's padding), K most likely tokens that are kept of the teacher's logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from trainer.model.loss import IGNORED_TARGET, CrossEntropy, chunked_loss, default_chunk_tokens

PARTS = ("cross_entropy", "divergence", "hidden_loss")
"""The parts of a lesson's loss, as log lines call them, each per token and before it is weighted."""


class SoftTargets(Protocol):
    """The teacher's distribution over the next token, of N tokens."""

    def compare(self, log_probs_CW: Tensor, rows: slice, temperature: float) -> Tensor:
        """KL(teacher || student) of each token [C], in nats, both at this temperature.

        log_probs_CW: the student's; probabilities student - teacher take their place.
        """
        ...


@dataclass(frozen=True)
class WholeTargets:
    """Of a teacher in memory: its logits are hidden @ weight^T."""

    hidden: Tensor
    """[N, E]"""
    weight: Tensor
    """Its head [V, E], without padding rows."""

    def compare(self, log_probs_CW: Tensor, rows: slice, temperature: float) -> Tensor:
        """See `SoftTargets`."""
        student_CV = log_probs_CW[:, : len(self.weight)]
        logits_CV = torch.mm(self.hidden[rows], self.weight.t()).to(student_CV.dtype).div_(temperature)
        teacher_CV = torch.log_softmax(logits_CV, -1)
        probs_CV = torch.exp(teacher_CV, out=logits_CV)
        divergence_C = teacher_CV.sub_(student_CV).mul_(probs_CV).sum(-1)
        log_probs_CW.exp_()
        student_CV.sub_(probs_CV)
        return divergence_C


@dataclass(frozen=True)
class TopTargets:
    """The K most likely tokens by the teacher; its distribution is the softmax over these alone."""

    ids: Tensor
    """[N, K]"""
    logits: Tensor
    """[N, K] of any type; a constant may be missing from each row."""

    def compare(self, log_probs_CW: Tensor, rows: slice, temperature: float) -> Tensor:
        """See `SoftTargets`."""
        ids_CK = self.ids[rows].long()
        teacher_CK = torch.log_softmax(self.logits[rows].to(log_probs_CW.dtype) / temperature, -1)
        probs_CK = teacher_CK.exp()
        divergence_C = teacher_CK.sub_(log_probs_CW.gather(1, ids_CK)).mul_(probs_CK).sum(-1)
        log_probs_CW.exp_().scatter_add_(1, ids_CK, probs_CK.neg_())
        return divergence_C


@dataclass(frozen=True)
class Lesson:
    """What the teacher says of one micro-batch, and how much it counts."""

    targets: SoftTargets
    alpha: float
    temperature: float
    hidden_weight: float
    student_layers: tuple[int, ...]
    """Blocks of the student, counted from 1, whose results are compared with `hidden`, one by one."""
    hidden: tuple[Tensor, ...]
    """Each [N, E]."""
    parts: Tensor
    """[3] float64, zeros: the loss puts its sums over counted tokens there, of `PARTS`."""


def distillation_loss(
    hidden_ND: Tensor,
    weight_WD: Tensor,
    targets_N: Tensor,
    lesson: Lesson,
    kept_ND: Sequence[Tensor],
    projections: nn.ModuleList | None,
    *,
    chunk_tokens: int | None,
    vocab_size: int,
) -> Tensor:
    """Sum over counted tokens of (1 - alpha) CE + alpha T^2 KL(teacher || student) + weight MSE: a scalar, in nats.

    CE is the cross-entropy with the next token, KL of both distributions at temperature T (Hinton et al. 2015,
    arXiv:1503.02531: T^2 keeps the two gradients' ratio when T changes), MSE of hidden states `kept_ND`, averaged over
    features and layers. The other arguments are as `chunked_cross_entropy` has them.
    """
    objective = Distillation(targets_N, lesson)
    chunk_tokens = chunk_tokens or default_chunk_tokens(hidden_ND, weight_WD)
    loss = chunked_loss(hidden_ND, weight_WD, objective, chunk_tokens=chunk_tokens, vocab_size=vocab_size)
    if not lesson.student_layers:
        return loss
    counted_N = targets_N != IGNORED_TARGET
    distances = []
    for number, (own_ND, theirs_NE) in enumerate(zip(kept_ND, lesson.hidden, strict=True)):
        projected_NE = projections[number](own_ND) if projections is not None else own_ND
        error_N = (projected_NE.to(loss.dtype) - theirs_NE.to(loss.dtype)).square().mean(-1)
        distances.append((error_N * counted_N).sum())
    distance = torch.stack(distances).mean()
    lesson.parts[2] += distance.detach()
    return loss + lesson.hidden_weight * distance


class Distillation:
    """(1 - alpha) CE + alpha T^2 KL, as an `Objective` over the student's logits."""

    def __init__(self, targets_N: Tensor, lesson: Lesson) -> None:
        self.targets = targets_N
        self._lesson = lesson
        self._cross_entropy = CrossEntropy(targets_N)

    def __call__(self, logits_CW: Tensor, rows: slice, *, needs_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """See `Objective`."""
        alpha, temperature = self._lesson.alpha, self._lesson.temperature
        cross_entropy, grad_CW = self._cross_entropy(logits_CW, rows, needs_gradient=needs_gradient)
        soft_CW = torch.log_softmax(logits_CW.to(cross_entropy.dtype) / temperature, -1)
        divergence_C = self._lesson.targets.compare(soft_CW, rows, temperature)
        divergence = divergence_C.masked_fill_(self.targets[rows] == IGNORED_TARGET, 0).sum()
        self._lesson.parts[:2] += torch.stack([cross_entropy, divergence])
        loss = (1 - alpha) * cross_entropy + alpha * temperature**2 * divergence
        if grad_CW is None:
            return loss, None
        # d KL / d logits = (student - teacher) / T.
        return loss, grad_CW.mul_(1 - alpha).add_(soft_CW, alpha=alpha * temperature)


def top_logits(hidden_NE: Tensor, weight_VE: Tensor, top_k: int) -> TopTargets:
    """The `top_k` largest of logits hidden @ weight^T, chunk by chunk: ids int32, logits fp16 less the row's largest.

    A row's differences are all that a softmax looks at, and are small: fp16 keeps them to 1 in 2,000, also where bf16
    would have 1 in 256 of the logits. Live and written teachers go through here, so that both say the same.
    """
    chunk_tokens = default_chunk_tokens(hidden_NE, weight_VE)
    ids, logits = [], []
    for start in range(0, len(hidden_NE), chunk_tokens):
        logits_CV = torch.mm(hidden_NE[start : start + chunk_tokens], weight_VE.t())
        top_CK = torch.topk(logits_CV.float(), top_k)
        ids.append(top_CK.indices.int())
        logits.append((top_CK.values - top_CK.values[:, :1]).half())
    return TopTargets(torch.cat(ids), torch.cat(logits))
