"""Logits over a cache are those of the whole sequence, for all families, also with padding and documents."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.model.cache import KeyValueCache
from trainer.model.config import GPT2Config, LlamaConfig, ModelSettings, NeoXConfig
from trainer.model.decoder import Decoder

SIZES = {"vocab_size": 97, "vocab_multiple": 64, "context": 32, "layers": 2, "width": 64, "heads": 4}
CONFIGS = {
    "gpt2": GPT2Config(**SIZES),
    "llama": LlamaConfig(**SIZES),
    "llama-grouped": LlamaConfig(**SIZES, kv_heads=2, tied=True),
    "neox": NeoXConfig(**SIZES),
    "neox-sequential": NeoXConfig(**SIZES, residual="sequential", rope_fraction=0.5),
}
END = 5
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def built(config: ModelSettings, **options: Any) -> Decoder:
    model = Decoder(config, **options).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            parameter.normal_(centre, 0.2, generator=generator)
    return model


def rows(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(6, 97, (length,), generator=generator).tolist() for length in lengths]


def cache_for(model: Decoder, paddings: list[int], columns: int = 32) -> KeyValueCache:
    return KeyValueCache(
        model.config,
        paddings,
        columns,
        dtype=torch.float32,
        device=torch.device("cpu"),
        document_end_id=model.document_end_id,
    )


@torch.no_grad()
def assert_same_logits(model: Decoder, sequences: list[list[int]], first: int, pieces: list[int]) -> None:
    """Prompts that end with token `first` of the longest row, then so many tokens at a time."""
    longest = max(map(len, sequences))
    paddings = [longest - len(row) for row in sequences]
    tokens_BT = torch.tensor([[END] * padding + row for padding, row in zip(paddings, sequences, strict=True)])
    whole = [model(torch.tensor([row]))[0] for row in sequences]
    cache = cache_for(model, paddings)
    start = 0
    for size in (first, *pieces):
        logits_BV = model.extend(tokens_BT[:, start : start + size], cache)
        start += size
        for row, padding in enumerate(paddings):
            torch.testing.assert_close(logits_BV[row], whole[row][start - padding - 1], atol=1e-5, rtol=1e-5)
    assert cache.used == start == longest


@each_config
def test_one_token_at_a_time_and_several(config: ModelSettings) -> None:
    assert_same_logits(built(config), rows(20), first=7, pieces=[1] * 13)
    assert_same_logits(built(config), rows(20, 20), first=1, pieces=[1, 1, 5, 1, 8, 1, 1, 1])


@each_config
def test_prompts_of_different_length(config: ModelSettings) -> None:
    assert_same_logits(built(config), rows(32, 13, 25), first=20, pieces=[1, 1, 4, 1, 1, 1, 1, 1, 1])


@each_config
def test_documents_of_one_row_do_not_see_each_other(config: ModelSettings) -> None:
    sequences = rows(20, 14, 20)
    for row, ends in enumerate(((0, 3, 4, 12, 19), (8, 10), ())):
        for end in ends:
            sequences[row][end] = END
    model = built(config, document_end_id=END)
    assert_same_logits(model, sequences, first=7, pieces=[1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 1])
    with torch.no_grad():
        other = [[*sequences[0][:12], 9, *sequences[0][13:]]]
        assert not torch.allclose(model(torch.tensor(other))[0, -2], model(torch.tensor(sequences[:1]))[0, -2])


@each_config
@torch.no_grad()
def test_a_row_that_has_filled_its_context_does_no_harm_to_the_others(config: ModelSettings) -> None:
    model = built(config)
    ended, going_on = rows(20, 32)
    whole = model(torch.tensor([going_on]))[0]
    cache = cache_for(model, [0, 4], columns=36)
    model.extend(torch.tensor([ended, [0] * 4 + going_on[:16]]), cache)
    for column in range(20, 36):
        logits_BV = model.extend(torch.tensor([[1], [going_on[column - 4]]]), cache)
        torch.testing.assert_close(logits_BV[1], whole[column - 4], atol=1e-5, rtol=1e-5)


def test_a_full_cache_is_refused() -> None:
    model = built(CONFIGS["gpt2"])
    cache = cache_for(model, [0], columns=4)
    with torch.no_grad(), pytest.raises(ValueError, match="0 columns of 4 are used: no room for 5"):
        model.extend(torch.tensor([[1, 2, 3, 4, 5]]), cache)
