"""The rotary table and its application."""

import pytest
import torch

from trainer.model.positions import RopeTable, rotate

CPU = torch.device("cpu")


def test_scores_depend_on_the_distance_alone() -> None:
    query, key = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))
    cos_TR, sin_TR = RopeTable(64, 16, 10000.0).at(slice(64), CPU)

    def score(at: int, other: int) -> float:
        turned = rotate(query, (cos_TR[at : at + 1], sin_TR[at : at + 1]))
        return (turned * rotate(key, (cos_TR[other : other + 1], sin_TR[other : other + 1]))).sum().item()

    assert score(10, 3) == pytest.approx(score(50, 43), abs=1e-5)
    assert score(10, 3) != pytest.approx(score(10, 4), abs=1e-3)


def test_a_fraction_leaves_the_rest_of_the_head_alone() -> None:
    heads_BTNK = torch.randn(2, 8, 3, 16, generator=torch.Generator().manual_seed(0))
    turned = rotate(heads_BTNK, RopeTable(8, 4, 10000.0).at(slice(8), CPU))
    assert torch.equal(turned[..., 4:], heads_BTNK[..., 4:])
    assert torch.equal(turned[:, 0], heads_BTNK[:, 0])
    assert not torch.equal(turned[:, 1, :, :4], heads_BTNK[:, 1, :, :4])


def test_bf16_heads_are_rotated_in_fp32() -> None:
    heads_BTNK = torch.randn(1, 2048, 1, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    rope = RopeTable(2048, 8, 10000.0).at(slice(2048), CPU)
    turned = rotate(heads_BTNK, rope)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate(heads_BTNK.float(), rope).bfloat16())


def test_a_cast_table_is_refused() -> None:
    cos_TR, sin_TR = RopeTable(8, 4, 10000.0).at(slice(8), CPU)
    with pytest.raises(TypeError, match="cast_forward_inputs=False"):
        rotate(torch.randn(1, 8, 1, 4), (cos_TR.bfloat16(), sin_TR.bfloat16()))


def test_a_table_made_in_inference_mode_serves_training() -> None:
    table = RopeTable(8, 4, 10000.0)
    with torch.inference_mode():
        table.at(slice(8), CPU)
    heads_BTNK = torch.randn(1, 8, 1, 4, requires_grad=True)
    rotate(heads_BTNK, table.at(slice(8), CPU)).sum().backward()
    assert heads_BTNK.grad is not None
