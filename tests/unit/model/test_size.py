"""Exact parameter counts, of published models and against the built one, and the FLOP formula."""

import pytest
import torch

from trainer.model.config import GPT2Config, LlamaConfig, ModelSettings, NeoXConfig
from trainer.model.decoder import Decoder
from trainer.model.size import (
    count_parameters,
    count_parameters_without_positions,
    flops_per_token,
)

NAMED = {
    "gpt2-124m": (GPT2Config(), 124_439_808),
    "gpt2-large": (GPT2Config(layers=36, width=1280, heads=20), 774_030_080),
    "llama-1.36b": (LlamaConfig(), 1_294_159_104),
    "gpt2-1.36b": (GPT2Config(layers=18, width=2432, heads=19, context=2048), 1_405_338_496),
    "gpt-1b": (GPT2Config(layers=24, width=1536, heads=24, context=2048, vocab_size=50000), 759_905_280),
    "neox-1.4b": (NeoXConfig(), 1_414_455_296),
}
VARIANTS = {
    "padded": GPT2Config(vocab_multiple=64, layers=2),
    "padded-untied": GPT2Config(vocab_multiple=128, layers=2, tied=False),
    "no-bias": GPT2Config(bias=False, layers=2),
    "grouped": LlamaConfig(layers=2, kv_heads=6),
    "llama-bias": LlamaConfig(layers=2, bias=True),
    "gpt2-rope-rms": GPT2Config(layers=2, positions="rope", norm="rmsnorm"),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_models_have_their_published_size(name: str) -> None:
    config, parameters = NAMED[name]
    assert count_parameters(config) == parameters


@pytest.mark.parametrize("config", [*(config for config, _ in NAMED.values()), *VARIANTS.values()])
def test_count_equals_the_built_model(config: ModelSettings) -> None:
    with torch.device("meta"):
        built = sum(parameter.numel() for parameter in Decoder(config).parameters())
    tables = 1 if config.tied else 2
    padding = tables * (config.padded_vocab_size - config.vocab_size) * config.width
    assert built == count_parameters(config) + padding


def test_positions_are_left_out_of_n() -> None:
    assert count_parameters(GPT2Config()) - count_parameters_without_positions(GPT2Config()) == 1024 * 768
    assert count_parameters_without_positions(LlamaConfig()) == count_parameters(LlamaConfig())


def test_flops_per_token_of_gpt2_small() -> None:
    assert flops_per_token(GPT2Config(), 1024) == 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024
