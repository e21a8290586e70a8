"""Sampling has the semantics of Transformers' logits processors, and refuses values without a meaning."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from trainer.errors import UserError
from trainer.evaluate.sampling import (
    GREEDY_BELOW,
    LARGEST_PENALTY,
    MAX_STOPS,
    SMALLEST_PENALTY,
    Sampling,
    choose,
    penalise,
    restrict,
)

VOCABULARY = 211


def logits(seed: int = 0) -> torch.Tensor:
    """[4, V], some of them equal, as rounding makes them."""
    return (torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3).mul(8).round().div(8)


@pytest.mark.parametrize(
    ("temperature", "penalty"), [(0.3, 1.0), (1.0, 1.3), (1.7, 0.7)], ids=["cool", "penalised", "rewarded"]
)
def test_against_transformers(temperature: float, penalty: float) -> None:
    for top_k in (1, 7, 50, VOCABULARY, 1000):
        for top_p in (1e-6, 0.3, 0.9, 0.999, 1.0):
            assert_same_logits(temperature, top_k, top_p, penalty)


def assert_same_logits(temperature: float, top_k: int, top_p: float, penalty: float) -> None:
    ids_BT = torch.randint(0, VOCABULARY, (4, 30), generator=torch.Generator().manual_seed(1))
    theirs = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(temperature)])
    theirs.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        theirs.append(TopPLogitsWarper(top_p))
    seen_BV = torch.zeros(4, VOCABULARY, dtype=torch.bool).scatter(1, ids_BT, True)
    ours_BV = restrict(penalise(logits(), seen_BV, penalty) / temperature, top_k, top_p)
    torch.testing.assert_close(ours_BV, theirs(ids_BT, logits()), rtol=0, atol=0)


def draws(sampling: Sampling, logits_BV: torch.Tensor, times: int) -> torch.Tensor:
    """[times, B]"""
    own = [torch.Generator().manual_seed(sampling.seed) for _ in logits_BV]
    return torch.stack([choose(logits_BV, sampling, own) for _ in range(times)])


def test_draws_have_the_frequencies_of_the_softmax() -> None:
    logits_BV = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    drawn = draws(Sampling(temperature=1.0, top_k=0, top_p=0.8, seed=3), logits_BV, 4000)
    frequencies = torch.bincount(drawn.flatten(), minlength=4) / len(drawn)
    torch.testing.assert_close(frequencies, torch.tensor([5 / 8, 3 / 8, 0.0, 0.0]), atol=0.03, rtol=0)


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    together = draws(Sampling(), logits(), 20)
    for row in range(4):
        assert torch.equal(draws(Sampling(), logits()[row : row + 1], 20)[:, 0], together[:, row])


def test_temperature_zero_takes_the_most_likely_after_the_penalty() -> None:
    logits_BV = torch.tensor([[0.5, 3.0, 2.9], [-1.0, -1.1, -5.0]])
    assert choose(logits_BV, Sampling(temperature=0), []).tolist() == [1, 0]
    seen_BV = torch.tensor([[False, True, False], [True, False, False]])
    assert choose(logits_BV, Sampling(temperature=0, repetition_penalty=1.2), [], seen_BV).tolist() == [2, 1]


@pytest.mark.parametrize("penalty", [SMALLEST_PENALTY, LARGEST_PENALTY])
@pytest.mark.parametrize("temperature", [1e-320, 1e-42, GREEDY_BELOW])
def test_the_smallest_temperatures_and_penalties_give_probabilities(temperature: float, penalty: float) -> None:
    logits_BV = torch.tensor([[-40.0, 3.0, 2.9], [1e4, 1e4 - 1, -1e4]])
    seen_BV = torch.zeros(2, 3, dtype=torch.bool)
    own = [torch.Generator().manual_seed(1) for _ in range(2)]
    sampling = Sampling(temperature=temperature, repetition_penalty=penalty)
    for seen in (seen_BV, ~seen_BV):
        assert choose(logits_BV, sampling, own, seen).tolist() == [1, 0]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Sampling(max_tokens=0),
        lambda: Sampling(temperature=-0.1),
        lambda: Sampling(temperature=math.nan),
        lambda: Sampling(temperature=math.inf),
        lambda: Sampling(top_k=-1),
        lambda: Sampling(top_p=0),
        lambda: Sampling(top_p=1.01),
        lambda: Sampling(repetition_penalty=0),
        lambda: Sampling(repetition_penalty=1e-42),
        lambda: Sampling(stop=("a", "")),
        lambda: Sampling(stop=("a",) * (MAX_STOPS + 1)),
        lambda: Sampling(seed=2**63),
    ],
)
def test_what_has_no_meaning_is_refused(build: Callable[[], Sampling]) -> None:
    with pytest.raises(UserError, match=r"^\w+: found .*\n  expected: "):
        build()
