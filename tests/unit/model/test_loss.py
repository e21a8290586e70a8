"""The chunked loss against PyTorch's on whole logits: values, gradients, ignored targets, padding, types."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.model.loss import chunked_cross_entropy


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden_ND = torch.randn(21, 16, generator=generator).to(dtype).requires_grad_()
    weight_VD = torch.randn(50, 16, generator=generator).to(dtype).requires_grad_()
    targets_N = torch.randint(0, 50, (21,), generator=generator)
    targets_N[::4] = -100
    return hidden_ND, weight_VD, targets_N


def whole(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    return F.cross_entropy((hidden_ND @ weight_VD.t()).float(), targets_N, reduction="sum")


@pytest.mark.parametrize("chunk_tokens", [1, 4, 7, 20, 21, 1000, None])
def test_value_and_gradients_equal_the_whole_loss(chunk_tokens: int | None) -> None:
    hidden_ND, weight_VD, targets_N = inputs()
    expected = whole(hidden_ND, weight_VD, targets_N)
    expected_gradients = torch.autograd.grad(expected * 0.25, (hidden_ND, weight_VD))
    loss = chunked_cross_entropy(hidden_ND, weight_VD, targets_N, chunk_tokens=chunk_tokens)
    gradients = torch.autograd.grad(loss * 0.25, (hidden_ND, weight_VD))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, expected_gradients)


def test_gradcheck_in_double() -> None:
    hidden_ND, weight_VD, targets_N = inputs(torch.float64)
    assert torch.autograd.gradcheck(
        lambda hidden, weight: chunked_cross_entropy(hidden, weight, targets_N, chunk_tokens=6), (hidden_ND, weight_VD)
    )


@pytest.mark.parametrize("frozen", [0, 1])
def test_only_one_input_needs_a_gradient(frozen: int) -> None:
    *tensors, targets_N = inputs()
    tensors[frozen].requires_grad_(False)
    chunked_cross_entropy(tensors[0], tensors[1], targets_N, chunk_tokens=6).backward()
    assert tensors[frozen].grad is None
    assert tensors[1 - frozen].grad is not None


def test_no_grad_gives_the_same_value() -> None:
    hidden_ND, weight_VD, targets_N = inputs()
    with torch.no_grad():
        loss = chunked_cross_entropy(hidden_ND, weight_VD, targets_N, chunk_tokens=6)
    assert not loss.requires_grad
    assert torch.equal(loss, chunked_cross_entropy(hidden_ND, weight_VD, targets_N, chunk_tokens=6).detach())


def test_a_batch_of_ignored_targets_is_zero_with_zero_gradients() -> None:
    hidden_ND, weight_VD, targets_N = inputs()
    loss = chunked_cross_entropy(hidden_ND, weight_VD, torch.full_like(targets_N, -100), chunk_tokens=6)
    loss.backward()
    assert loss.item() == 0.0
    assert hidden_ND.grad is not None
    assert weight_VD.grad is not None
    assert not hidden_ND.grad.any()
    assert not weight_VD.grad.any()


def test_padding_rows_do_not_count() -> None:
    hidden_ND, weight_VD, targets_N = inputs()
    padded_VD = torch.cat([weight_VD.detach(), torch.full((14, 16), 9.0)]).requires_grad_()
    loss = chunked_cross_entropy(hidden_ND, padded_VD, targets_N, chunk_tokens=6, vocab_size=50)
    loss.backward()
    torch.testing.assert_close(loss, whole(hidden_ND, weight_VD, targets_N))
    assert padded_VD.grad is not None
    assert not padded_VD.grad[50:].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_as_near_to_fp32_as_one_rounding(dtype: torch.dtype) -> None:
    hidden_ND, weight_VD, targets_N = inputs(dtype)
    exact_inputs = [tensor.detach().float().requires_grad_() for tensor in (hidden_ND, weight_VD)]
    exact = whole(*exact_inputs, targets_N)
    exact.backward()
    loss = chunked_cross_entropy(hidden_ND, weight_VD, targets_N, chunk_tokens=6)
    loss.backward()
    assert loss.dtype == torch.float32
    tolerance = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 16 * torch.finfo(dtype).eps}
    torch.testing.assert_close(loss, exact, rtol=torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close(hidden_ND.grad.float(), exact_inputs[0].grad, **tolerance)
    torch.testing.assert_close(weight_VD.grad.float(), exact_inputs[1].grad, **tolerance)


def test_chunks_sum_the_weight_gradient_in_fp32() -> None:
    # 512 equal contributions, one per chunk: in bf16 the sum would stop growing once they are 1/256 of it.
    hidden_ND = torch.full((512, 4), 0.0078125, dtype=torch.bfloat16)
    weight_VD = torch.zeros(8, 4, dtype=torch.bfloat16, requires_grad=True)
    targets_N = torch.zeros(512, dtype=torch.long)
    chunked_cross_entropy(hidden_ND, weight_VD, targets_N, chunk_tokens=1).backward()
    assert weight_VD.grad is not None
    torch.testing.assert_close(weight_VD.grad[0], torch.full((4,), -512 * 0.0078125 * 7 / 8, dtype=torch.bfloat16))


@pytest.mark.parametrize("chunk_tokens", [6, 100])
def test_the_factor_behind_the_loss_keeps_its_precision(chunk_tokens: int) -> None:
    """bf16 has no 1/3: rounded to it, the factor would make all gradients of a model 0.2% too large."""
    hidden_ND, weight_VD, targets_N = inputs(torch.bfloat16)
    loss = chunked_cross_entropy(hidden_ND, weight_VD, targets_N, chunk_tokens=chunk_tokens)
    once = torch.autograd.grad(loss, (hidden_ND, weight_VD), retain_graph=True)
    third = torch.autograd.grad(loss / 3, (hidden_ND, weight_VD))
    for whole_gradient, part in zip(once, third, strict=True):
        ratio = part.double().norm() / whole_gradient.double().norm()
        assert ratio.item() == pytest.approx(1 / 3, rel=5e-4)


def test_a_sum_beyond_fp16_survives_when_the_factor_makes_it_small() -> None:
    hidden_ND = torch.full((512, 4), 200.0, dtype=torch.float16)
    weight_VD = torch.zeros(8, 4, dtype=torch.float16, requires_grad=True)
    targets_N = torch.zeros(512, dtype=torch.long)
    (chunked_cross_entropy(hidden_ND, weight_VD, targets_N, chunk_tokens=64) / 512).backward()
    assert weight_VD.grad is not None
    torch.testing.assert_close(weight_VD.grad[0], torch.full((4,), -200 * 7 / 8, dtype=torch.float16))


def test_gradients_accumulate_over_micro_batches() -> None:
    hidden_ND, weight_VD, targets_N = inputs()
    whole(hidden_ND, weight_VD, targets_N).backward()
    assert weight_VD.grad is not None
    expected = weight_VD.grad.clone()
    weight_VD.grad = None
    for half in (slice(0, 10), slice(10, 21)):
        chunked_cross_entropy(hidden_ND[half], weight_VD, targets_N[half]).backward()
    torch.testing.assert_close(weight_VD.grad, expected)
