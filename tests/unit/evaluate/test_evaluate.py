"""Bits per byte and sampling."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.evaluate.generate import Sampling, generate_ids, sample
from trainer.evaluate.loss import Evaluation, bits_per_byte


def test_bits_per_byte_against_its_definition() -> None:
    # 2 nats per token, 4 bytes per token: 0.5 nats per byte.
    assert bits_per_byte(2.0, 4.0) == pytest.approx(0.5 / math.log(2))
    assert bits_per_byte(2.0, None) is None


def test_perplexity_does_not_overflow() -> None:
    assert Evaluation(1.0, 1, None).perplexity == pytest.approx(math.e)
    assert Evaluation(1e6, 1, None).perplexity == math.inf


def test_temperature_zero_takes_the_most_likely() -> None:
    assert sample(torch.tensor([0.0, 3.0, 1.0]), Sampling(temperature=0), torch.Generator()) == 1


def test_top_k_never_draws_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    logits_V = torch.tensor([5.0, 4.9, -1.0, 4.8])
    drawn = {sample(logits_V, Sampling(top_k=3, temperature=5.0), generator) for _ in range(200)}
    assert drawn == {0, 1, 3}


def test_generation_depends_on_the_seed_alone_and_looks_back_one_context() -> None:
    lengths = []

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
            lengths.append(tokens_BT.shape[1])
            return torch.zeros(*tokens_BT.shape, 16)

    def run(seed: int) -> list[int]:
        return list(generate_ids(Model(), [1, 2], Sampling(max_tokens=6, seed=seed), context=4))

    assert run(3) == run(3) != run(4)
    assert max(lengths) == 4
