"""Whether validation tracks training: the verdict, and which sequences count as seen."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluate.loss import Evaluation
from trainer.evaluate.overfit import compare, pick_seen


@pytest.mark.parametrize(
    ("training", "validation", "error", "verdict"),
    [
        (3.0, 3.1, 0.01, "tracks"),  # less than 5%
        (3.0, 3.4, 0.2, "tracks"),  # chance may have made it
        (3.0, 3.4, 0.01, "over-fit"),
        (3.0, 3.4, None, "over-fit"),
        (3.0, 2.5, 0.01, "easier"),
        (3.0, 2.5, 0.3, "tracks"),
    ],
)
def test_verdicts(training: float, validation: float, error: float | None, verdict: str) -> None:
    found = compare(Evaluation(training, 10, None, error), Evaluation(validation, 10, None, error))
    assert found.verdict == verdict
    assert found.gap == pytest.approx(validation - training)
    assert found.gap_standard_error == (None if error is None else pytest.approx(error * 2**0.5))


@given(st.integers(1, 10_000), st.integers(1, 600), st.integers(1, 300))
def test_the_sample_is_of_what_was_read_each_once_over_the_whole_life(steps: int, batch: int, sequences: int) -> None:
    picks = pick_seen(steps, batch, sequences)
    assert len(picks) == len(set(picks)) == min(sequences, steps * batch)
    assert all(0 <= step < steps and 0 <= row < batch for step, row in picks)
    places = [step * batch + row for step, row in picks]
    gaps = {later - earlier for earlier, later in pairwise(places)}
    assert places[0] == 0
    assert len(gaps) <= 2
    assert steps * batch - places[-1] <= max(gaps, default=steps * batch) + 1
