"""The chunked distillation loss against autograd on whole logits: values, gradients, padding, top-k, hidden states."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model.distillation import Lesson, SoftTargets, TopTargets, WholeTargets, distillation_loss, top_logits

VOCABULARY, ALPHA, TEMPERATURE = 50, 0.7, 2.5


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, WholeTargets]:
    """Hidden state and padded head of the student, targets, and a teacher of another width."""
    generator = torch.Generator().manual_seed(1)
    hidden_ND = torch.randn(21, 16, generator=generator).to(dtype).requires_grad_()
    weight_WD = torch.randn(VOCABULARY + 6, 16, generator=generator).to(dtype).requires_grad_()
    targets_N = torch.randint(0, VOCABULARY, (21,), generator=generator)
    targets_N[::4] = -100
    hidden_NE = torch.randn(21, 24, generator=generator).to(dtype)
    weight_VE = torch.randn(VOCABULARY, 24, generator=generator).to(dtype)
    return hidden_ND, weight_WD, targets_N, WholeTargets(hidden_NE, weight_VE)


def lesson_of(targets: SoftTargets, hidden_NE: tuple[Tensor, ...] = (), alpha: float = ALPHA) -> Lesson:
    parts = torch.zeros(3, dtype=torch.float64)
    return Lesson(targets, alpha, TEMPERATURE, 0.3, tuple(range(1, len(hidden_NE) + 1)), hidden_NE, parts)


def whole(hidden_ND: Tensor, weight_WD: Tensor, targets_N: Tensor, teacher_NV: Tensor, alpha: float = ALPHA) -> Tensor:
    """The formula of Hinton et al., section 2, on all logits at once."""
    logits_NV = hidden_ND @ weight_WD[:VOCABULARY].t()
    counted = targets_N != -100
    cross_entropy = F.cross_entropy(logits_NV, targets_N, reduction="sum")
    divergence = F.kl_div(
        F.log_softmax(logits_NV[counted] / TEMPERATURE, -1),
        F.log_softmax(teacher_NV[counted] / TEMPERATURE, -1),
        reduction="sum",
        log_target=True,
    )
    return (1 - alpha) * cross_entropy + alpha * TEMPERATURE**2 * divergence


def chunked(
    hidden_ND: Tensor, weight_WD: Tensor, targets_N: Tensor, lesson: Lesson, chunk_tokens: int | None = 6
) -> Tensor:
    return distillation_loss(
        hidden_ND, weight_WD, targets_N, lesson, (), None, chunk_tokens=chunk_tokens, vocab_size=VOCABULARY
    )


@pytest.mark.parametrize("chunk_tokens", [1, 4, 20, 21, 1000, None])
@pytest.mark.parametrize("alpha", [0.0, ALPHA, 1.0])
def test_value_and_gradients_equal_those_of_whole_logits(chunk_tokens: int | None, alpha: float) -> None:
    hidden_ND, weight_WD, targets_N, teacher = inputs()
    expected = whole(hidden_ND, weight_WD, targets_N, teacher.hidden @ teacher.weight.t(), alpha)
    expected_gradients = torch.autograd.grad(expected * 0.25, (hidden_ND, weight_WD))
    loss = chunked(hidden_ND, weight_WD, targets_N, lesson_of(teacher, alpha=alpha), chunk_tokens)
    gradients = torch.autograd.grad(loss * 0.25, (hidden_ND, weight_WD))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, expected_gradients)
    assert not gradients[1][VOCABULARY:].any()


def test_parts_are_the_sums_before_they_are_weighted() -> None:
    hidden_ND, weight_WD, targets_N, teacher = inputs()
    lesson = lesson_of(teacher)
    loss = chunked(hidden_ND, weight_WD, targets_N, lesson)
    cross_entropy, divergence, hidden = lesson.parts.tolist()
    assert loss.item() == pytest.approx((1 - ALPHA) * cross_entropy + ALPHA * TEMPERATURE**2 * divergence)
    assert (divergence > 0, hidden) == (True, 0)


def test_a_student_that_equals_its_teacher_has_no_divergence_and_no_gradient() -> None:
    _, _, targets_N, teacher = inputs()
    hidden_ND, weight_VD = teacher.hidden.clone().requires_grad_(), teacher.weight.clone().requires_grad_()
    loss = chunked(hidden_ND, weight_VD, targets_N, lesson_of(teacher, alpha=1.0))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert hidden_ND.grad is not None
    torch.testing.assert_close(hidden_ND.grad, torch.zeros_like(hidden_ND))


def test_top_logits_are_those_of_the_teacher_restricted() -> None:
    hidden_ND, weight_WD, targets_N, teacher = inputs()
    top = top_logits(teacher.hidden, teacher.weight, 7)
    assert (top.ids.dtype, top.logits.dtype) == (torch.int32, torch.float16)
    teacher_NV = torch.full((21, VOCABULARY), -torch.inf, dtype=torch.float64)
    teacher_NV.scatter_(1, top.ids.long(), top.logits.double())
    kept = torch.topk(teacher.hidden @ teacher.weight.t(), 7)
    assert torch.equal(kept.indices, top.ids.long())
    torch.testing.assert_close(
        (kept.values - kept.values[:, :1]).half().double(), top.logits.double(), rtol=1e-3, atol=1e-5
    )
    logits_NV = hidden_ND @ weight_WD[:VOCABULARY].t()
    counted = targets_N != -100
    probs_NV = torch.softmax(teacher_NV / TEMPERATURE, -1)
    student_NV = torch.log_softmax(logits_NV / TEMPERATURE, -1)
    teacher_log_NV = torch.log_softmax(teacher_NV / TEMPERATURE, -1).masked_fill(probs_NV == 0, 0)
    divergence = (probs_NV * (teacher_log_NV - student_NV))[counted].sum()
    expected = 0.5 * TEMPERATURE**2 * divergence + 0.5 * F.cross_entropy(logits_NV, targets_N, reduction="sum")
    loss = chunked(hidden_ND, weight_WD, targets_N, lesson_of(top, alpha=0.5))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, (hidden_ND, weight_WD)), torch.autograd.grad(expected, (hidden_ND, weight_WD))
    )


def test_top_logits_of_the_whole_vocabulary_are_the_live_teacher_but_for_fp16() -> None:
    hidden_ND, weight_WD, targets_N, teacher = inputs()
    top: TopTargets = top_logits(teacher.hidden, teacher.weight, VOCABULARY)
    restricted, expected = (chunked(hidden_ND, weight_WD, targets_N, lesson_of(each)) for each in (top, teacher))
    torch.testing.assert_close(restricted, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("projected", [False, True])
def test_hidden_states_are_compared_through_the_projection(*, projected: bool) -> None:
    hidden_ND, weight_WD, targets_N, teacher = inputs()
    kept_ND = torch.randn(21, 16, dtype=torch.float64, requires_grad=True)
    theirs_NE = torch.randn(21, 24 if projected else 16, dtype=torch.float64)
    projections = nn.ModuleList([nn.Linear(16, 24, bias=False, dtype=torch.float64)]) if projected else None
    mapped_NE = projections[0](kept_ND) if projections is not None else kept_ND
    expected = F.mse_loss(mapped_NE, theirs_NE, reduction="none").mean(-1)[targets_N != -100].sum()
    lesson = lesson_of(teacher, (theirs_NE,))
    loss = distillation_loss(
        hidden_ND, weight_WD, targets_N, lesson, [kept_ND], projections, chunk_tokens=6, vocab_size=VOCABULARY
    )
    plain = chunked(hidden_ND, weight_WD, targets_N, lesson_of(teacher))
    torch.testing.assert_close(loss - plain, 0.3 * expected)
    assert lesson.parts[2].item() == pytest.approx(expected.item())
    torch.testing.assert_close(
        torch.autograd.grad(loss, kept_ND, retain_graph=True), torch.autograd.grad(0.3 * expected, kept_ND)
    )


def test_bf16_stays_near_fp32() -> None:
    hidden_ND, weight_WD, targets_N, teacher = inputs(torch.bfloat16)
    exact = [tensor.detach().float().requires_grad_() for tensor in (hidden_ND, weight_WD)]
    exact_teacher = WholeTargets(teacher.hidden.float(), teacher.weight.float())
    expected = chunked(exact[0], exact[1], targets_N, lesson_of(exact_teacher))
    loss = chunked(hidden_ND, weight_WD, targets_N, lesson_of(teacher))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-2, atol=0)
