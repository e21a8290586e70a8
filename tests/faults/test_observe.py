"""What a campaign reads off a run's lines."""

from __future__ import annotations

import pytest

from tests.faults.observe import Observed, Step


@pytest.mark.parametrize(
    ("began_at", "expected"),
    [
        ([], []),  # no moment found anything to break
        ([1.5], [4.0]),
        ([1.5, 6.5], [4.0, 0.5]),
        ([9.5], [0.0]),  # no step after it
    ],
)
def test_a_pause_is_the_longest_gap_between_steps_after_a_moment(began_at: list[float], expected: list[float]) -> None:
    observed = Observed([Step(at, 1, number, 0.0, "") for number, at in enumerate([1.0, 2.0, 6.0, 7.0])])
    assert observed.pauses_seconds(began_at, 10.0) == expected
