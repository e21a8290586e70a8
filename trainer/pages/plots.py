"""Geometry of plots: from figures to bars, lines and ticks in the units of an SVG drawing. Pure.

Reports turn their figures into a `Plot` with it; parts.html draws one, and style sheets decide on colours and type.
x grows to the right and y downwards, as in SVG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

WIDTH = 720
# Room for the labels of the axes.
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 12, 44
HEIGHT = 300
_ROW_HEIGHT = 26
_ROW_LABEL = 190
_ROW_VALUE = 150
_MOST_STEPS = 5
_MOST_LABELS = 12
_ROOM = 0.05
"""Of a logarithmic axis, on both sides: its outermost points are as worth seeing as the others."""
SERIES = ("bar", "second", "third", "fourth", "fifth", "sixth")
"""Classes of the members of a series, in parts.html."""


class Point(NamedTuple):
    """A figure `y` at `x`, or where it is drawn."""

    x: float
    y: float


@dataclass(frozen=True)
class Tick:
    """A mark on an axis; its label may be empty."""

    place: float
    label: str


@dataclass(frozen=True)
class Bar:
    """A rectangle, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: str
    style: str = "bar"


@dataclass(frozen=True)
class Line:
    """A line, or the outline of an area; `style` is its class."""

    points: tuple[Point, ...]
    style: str = "curve"


@dataclass(frozen=True)
class Plot:
    """A drawing of `width` times `height`, whose axes frame left..right and top..bottom."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    areas: tuple[Line, ...] = ()
    ticks_x: tuple[Tick, ...] = ()
    ticks_y: tuple[Tick, ...] = ()


@dataclass(frozen=True)
class Scale:
    """Where the values low..high are between the places start and end."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The place of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / ((self.high - self.low) or 1.0)


@dataclass(frozen=True)
class Curve:
    """A figure over x, in pieces that are not joined."""

    pieces: tuple[tuple[Point, ...], ...]
    style: str = "curve"


def curves_plot(
    curves: Sequence[Curve],
    *,
    from_zero: bool = True,
    span: tuple[float, float] | None = None,
    label_y: Callable[[float], str] | None = None,
) -> Plot | None:
    """Curves over the same axes; None where they have no point.

    from_zero: whether y begins there, or at the lowest figure; span: from where to where x goes, by default as far as
    the curves do; without `label_y` ticks are plain numbers.
    """
    points = [point for curve in curves for piece in curve.pieces for point in piece]
    if not points:
        return None
    marks_y = ticks_between(0.0 if from_zero else min(p.y for p in points), max(p.y for p in points))
    low_x, high_x = span or (min(p.x for p in points), max(p.x for p in points))
    x = Scale(low_x, high_x, LEFT, WIDTH - RIGHT)
    y = Scale(marks_y[0], marks_y[-1], HEIGHT - BOTTOM, TOP)
    lines = [
        Line(tuple(Point(x.place(p.x), y.place(p.y)) for p in piece), curve.style)
        for curve in curves
        for piece in thinned(curve.pieces, low_x, high_x, int(x.end - x.start))
    ]
    return replace(empty_plot(), lines=tuple(lines), ticks_x=x_ticks(x), ticks_y=_ticks(y, marks_y, label_y))


def curves_over_log(curves: Sequence[Curve], marks: Sequence[float]) -> Plot | None:
    """Curves over positive x on a logarithmic scale from the lowest to the highest mark; None without a point.

    marks: values of x with a tick each, ascending; of more than `_MOST_LABELS` every second, third, ... has a label.
    """
    low, high = math.log10(marks[0]), math.log10(marks[-1])
    room = (high - low) * _ROOM or _ROOM
    scaled = [
        replace(curve, pieces=tuple(tuple(Point(math.log10(p.x), p.y) for p in piece) for piece in curve.pieces))
        for curve in curves
    ]
    plot = curves_plot(scaled, from_zero=False, span=(low - room, high + room))
    if plot is None:
        return None
    x = Scale(low - room, high + room, plot.left, plot.right)
    every = -(-len(marks) // _MOST_LABELS)
    ticks = tuple(
        Tick(x.place(math.log10(mark)), f"{mark:g}" if number % every == 0 else "") for number, mark in enumerate(marks)
    )
    return replace(plot, ticks_x=ticks)


def empty_plot(height: int = HEIGHT) -> Plot:
    """A drawing with room for axes and nothing in it."""
    return Plot(WIDTH, height, LEFT, WIDTH - RIGHT, TOP, height - BOTTOM)


def x_ticks(x: Scale) -> tuple[Tick, ...]:
    """Round values of a scale that keep their places: the scale ends where the figures do."""
    marks = [mark for mark in ticks_between(x.low, x.high) if x.low <= mark <= x.high]
    return _ticks(x, marks or [x.low], None)


def rows_plot(rows: Sequence[tuple[str, float, str]]) -> Plot:
    """A row for each (label, value, value in words), as long as its value."""
    most = max(value for _, value, _ in rows) or 1
    height = _ROW_HEIGHT * len(rows) + 2 * TOP
    left, right = _ROW_LABEL, WIDTH - _ROW_VALUE
    bars = tuple(
        Bar(left, TOP + number * _ROW_HEIGHT + 4, (right - left) * value / most, _ROW_HEIGHT - 8, label, words)
        for number, (label, value, words) in enumerate(rows)
    )
    return Plot(WIDTH, height, left, right, TOP, height - TOP, bars)


def thinned(pieces: Iterable[Sequence[Point]], low: float, high: float, columns: int) -> tuple[tuple[Point, ...], ...]:
    """No more points of each piece than can be seen: of each column of the drawing the first, lowest, highest, last.

    A peak of one point stays. Pieces of few points are left as they are.
    """
    x = Scale(low, high, 0, columns)
    return tuple(tuple(_thinned(piece, x)) if len(piece) > 4 else tuple(piece) for piece in pieces if piece)


def _thinned(piece: Sequence[Point], x: Scale) -> list[Point]:
    kept: list[Point] = []
    start = 0
    while start < len(piece):
        column = int(x.place(piece[start].x))
        stop = start + 1
        while stop < len(piece) and int(x.place(piece[stop].x)) == column:
            stop += 1
        indices = range(start, stop)
        extremes = {min(indices, key=lambda i: piece[i].y), max(indices, key=lambda i: piece[i].y)}
        kept += [piece[i] for i in sorted({start, stop - 1} | extremes)]
        start = stop
    return kept


def ticks_between(low: float, high: float) -> list[float]:
    """Round values from at most `low` to at least `high`, in steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    power = math.floor(math.log10((high - low) / _MOST_STEPS))
    step = next(
        factor * 10.0**exponent
        for exponent in (power, power + 1)
        for factor in (1, 2, 5)
        if math.ceil(high / (factor * 10.0**exponent)) - math.floor(low / (factor * 10.0**exponent)) <= _MOST_STEPS + 1
    )
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Rounded, or 3 * 0.1 is 0.30000000000000004.
    return [round(number * step, 12 - math.floor(math.log10(step))) for number in range(first, last + 1)]


def axis_number(number: float) -> str:
    """A number that fits beside an axis: 0.25, 5,000, 20M, 3G."""
    for unit, factor in (("T", 10**12), ("G", 10**9), ("M", 10**6)):
        if abs(number) >= factor:
            return f"{number / factor:,.10g}{unit}"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.6g}"


def _ticks(scale: Scale, marks: Sequence[float], label: Callable[[float], str] | None) -> tuple[Tick, ...]:
    return tuple(Tick(scale.place(mark), (label or axis_number)(mark)) for mark in marks)
