"""Published fits, at points that their papers give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.plan.scaling_law import FITS, effective_tokens, loss_range, optimal_tokens_range

CHINCHILLA, REFITTED, CONSTRAINED = FITS


def test_chinchilla_itself() -> None:
    # 70B parameters, 1.4T tokens: table A9 of the paper has the loss of its law at 1.93 to 1.94.
    assert CHINCHILLA.loss(70e9, 1.4e12) == pytest.approx(1.94, abs=0.01)


def test_the_refit_gives_about_twenty_tokens_per_parameter_for_chinchillas_compute() -> None:
    assert REFITTED.optimal_tokens(70e9) / 70e9 == pytest.approx(20, rel=0.15)


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.name)
def test_optimal_tokens_are_best_at_their_compute(fit) -> None:  # type: ignore[no-untyped-def]  # a parametrised fit
    parameters = 1.3e9
    tokens = fit.optimal_tokens(parameters)
    best = fit.loss(parameters, tokens)
    for factor in (0.5, 0.8, 1.25, 2.0):
        assert fit.loss(parameters * factor, tokens / factor) > best


def test_repeated_text_is_worth_less_and_less() -> None:
    assert effective_tokens(5e9, 10e9) == 5e9
    assert effective_tokens(40e9, 10e9) == pytest.approx(37e9, rel=0.02)  # four epochs: nearly as good as new
    assert effective_tokens(1e13, 10e9) < 10e9 * 17


@given(st.floats(1e7, 1e11), st.floats(1e8, 1e13), st.floats(1.1, 10))
def test_more_parameters_and_more_tokens_never_raise_the_loss(parameters: float, tokens: float, factor: float) -> None:
    for fit in FITS:
        assert fit.loss(parameters * factor, tokens) < fit.loss(parameters, tokens)
        assert fit.loss(parameters, tokens * factor) < fit.loss(parameters, tokens)
    low, high = loss_range(parameters, tokens, None)
    assert low <= high
    assert loss_range(parameters, tokens, tokens / factor)[0] >= low
    assert optimal_tokens_range(parameters * factor)[0] > optimal_tokens_range(parameters)[0]
