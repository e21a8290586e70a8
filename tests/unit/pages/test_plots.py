"""Places of curves and ticks; what may be left out of a curve."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.pages.plots import Curve, Point, Scale, axis_number, curves_plot, rows_plot, thinned, ticks_between

VALUES = st.floats(-1e12, 1e12).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(-50, 50)), min_size=1, max_size=500), st.integers(1, 40))
def test_a_thinned_curve_keeps_every_columns_ends_and_extremes(steps: list[tuple[int, int]], columns: int) -> None:
    piece = sorted((Point(x, y) for x, y in steps), key=lambda point: point.x)
    (kept,) = thinned([piece], 0, 1000, columns)
    assert len(kept) <= max(4 * (columns + 1), 4)
    assert list(kept) == sorted(kept, key=lambda point: point.x)
    assert (kept[0], kept[-1]) == (piece[0], piece[-1])
    by_column: dict[int, list[float]] = {}
    for point in piece:
        by_column.setdefault(int(point.x * columns / 1000), []).append(point.y)
    for column, values in by_column.items():
        own = [point.y for point in kept if int(point.x * columns / 1000) == column]
        assert (min(own), max(own)) == (min(values), max(values))


@given(VALUES, VALUES)
def test_ticks_cover_the_figures_and_are_few(first: float, second: float) -> None:
    low, high = sorted((first, second))
    marks = ticks_between(low, high)
    step = marks[1] - marks[0]
    assert marks[0] <= low + 1e-6 * step
    assert marks[-1] >= high - 1e-6 * step
    assert 2 <= len(marks) <= 8
    digits = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(digits - round_step) for round_step in (1, 2, 5, 10)) < 1e-3


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (2.4, 4.9, [2, 2.5, 3, 3.5, 4, 4.5, 5]),
        (0, 7, [0, 2, 4, 6, 8]),
        (3, 3, [3, 3.5, 4, 4.5, 5, 5.5, 6]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_ticks_are_round(low: float, high: float, marks: list[float]) -> None:
    assert ticks_between(low, high) == marks


def test_numbers_beside_axes_are_short() -> None:
    assert [axis_number(n) for n in (0.3, 2.5, 5000.0, 20_000_000, 2.5e9, 3e12)] == [
        "0.3",
        "2.5",
        "5,000",
        "20M",
        "2.5G",
        "3T",
    ]


def test_curves_share_their_axes() -> None:
    plot = curves_plot([Curve(((Point(0, 0), Point(10, 5)),)), Curve(((Point(5, 10),),), "curve second")])
    assert plot is not None
    rising, single = plot.lines
    assert rising.points[0] == (plot.left, plot.bottom)
    assert rising.points[1] == (plot.right, pytest.approx((plot.top + plot.bottom) / 2))
    assert single.points == ((pytest.approx((plot.left + plot.right) / 2), plot.top),)
    assert curves_plot([Curve(())]) is None


def test_a_span_may_be_longer_than_the_curve() -> None:
    plot = curves_plot([Curve(((Point(5, 1), Point(6, 1)),))], span=(0, 10))
    assert plot is not None
    assert plot.lines[0].points[0].x == pytest.approx((plot.left + plot.right) / 2)
    assert [tick.label for tick in plot.ticks_x] == ["0", "2", "4", "6", "8", "10"]


def test_rows_are_as_long_as_their_values() -> None:
    long, short = rows_plot([("a", 30, "30"), ("b", 15, "15")]).bars
    assert long.width == 2 * short.width
    assert short.y > long.y


def test_a_scale_of_one_value_has_a_place() -> None:
    assert Scale(3, 3, 10, 20).place(3) == 10
