"""Spread of initial values per family, and what they do and do not depend on."""

import math

import pytest
import torch

from trainer.model.config import GPT2Config, LlamaConfig, ModelSettings, NeoXConfig
from trainer.model.decoder import Decoder
from trainer.model.init import copy_full_, initialise

SIZES = {"vocab_size": 500, "context": 64, "layers": 4, "width": 128, "heads": 4}


def initial(config: ModelSettings, seed: int = 1) -> dict[str, torch.Tensor]:
    model = Decoder(config)
    initialise(model, seed)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("config", "matrix", "residual"),
    [
        (GPT2Config(**SIZES), 0.02, 0.02 / math.sqrt(8)),
        (LlamaConfig(**SIZES), 0.02, 0.02),
        (NeoXConfig(**SIZES), math.sqrt(2 / (5 * 128)), 2 / (4 * math.sqrt(128))),
    ],
)
def test_spread(config: ModelSettings, matrix: float, residual: float) -> None:
    values = initial(config)
    for name, value in values.items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif value.dim() == 1:
            assert (value == 1).all(), name
        else:
            expected = residual if name.endswith(("attention.out.weight", "mlp.down.weight")) else matrix
            assert value.std().item() == pytest.approx(expected, rel=0.05), name
            assert abs(value.mean().item()) < expected / 20, name


def test_seed_and_name_decide_a_value() -> None:
    values, same, other = (initial(GPT2Config(**SIZES), seed) for seed in (1, 1, 2))
    first, second = "blocks.0.mlp.up.weight", "blocks.1.mlp.up.weight"
    assert torch.equal(values[first], same[first])
    assert not torch.equal(values[first], other[first])
    assert not torch.equal(values[first], values[second])


def test_a_deeper_model_starts_with_the_same_first_block() -> None:
    shallow, deep = (initial(LlamaConfig(**SIZES | {"layers": layers})) for layers in (1, 3))
    assert all(torch.equal(value, deep[name]) for name, value in shallow.items())


def test_padding_rows_are_zero() -> None:
    values = initial(LlamaConfig(**SIZES, vocab_multiple=64))
    for name in ("embed.weight", "head.weight"):
        assert values[name].shape[0] == 512
        assert not values[name][500:].any()
        assert values[name][499].any()


def test_compiled_blocks_get_the_values_of_plain_ones() -> None:
    model = Decoder(GPT2Config(**SIZES))
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block, backend="eager")
    initialise(model, 1)
    plain = initial(GPT2Config(**SIZES))
    assert all(torch.equal(p, plain[n.replace("_orig_mod.", "")]) for n, p in model.named_parameters())


def test_copy_casts_to_the_parameter() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    copy_full_(parameter, torch.tensor([1.0, 2.0, 3.0]))
    assert parameter.tolist() == [1.0, 2.0, 3.0]
    assert parameter.dtype == torch.bfloat16
