"""Geometry of the page's plots: from figures to bars, lines and ticks in the units of an SVG drawing. Pure.

`trainer.data.inspect.html` fills them into the template, which decides on colours and type. x grows to the right and y
downwards, as in SVG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.data.inspect.report import Bucket, Filter, Rank
from trainer.data.inspect.wording import bucket_label, percent

WIDTH = 720
# Room for the labels of the axes.
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 20, 12, 44
_HEIGHT = 300
_ROW_HEIGHT = 26
_ROW_LABEL = 190
_ROW_VALUE = 150
_MOST_LABELS = 12


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
    points: tuple[tuple[float, float], ...] = ()
    ticks_x: tuple[Tick, ...] = ()
    ticks_y: tuple[Tick, ...] = ()


def lengths_plot(histogram: Sequence[Bucket]) -> Plot:
    """One column per bucket, as high as it has documents."""
    documents = sum(bucket.documents for bucket in histogram)
    marks = round_ticks(max(bucket.documents for bucket in histogram))
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    step = (right - left) / len(histogram)
    bars, ticks = [], []
    every = -(-len(histogram) // _MOST_LABELS)
    for number, bucket in enumerate(histogram):
        height = (bottom - top) * bucket.documents / marks[-1]
        value = f"{bucket.documents:,} documents ({percent(bucket.documents / documents)})"
        x = left + number * step
        bars.append(Bar(x + 0.1 * step, bottom - height, 0.8 * step, height, f"{bucket_label(bucket)} tokens", value))
        ticks.append(Tick(x + 0.5 * step, f"{bucket.start:,}" if number % every == 0 else ""))
    ticks_y = tuple(Tick(bottom - (bottom - top) * mark / marks[-1], axis_number(mark)) for mark in marks)
    return Plot(WIDTH, _HEIGHT, left, right, top, bottom, tuple(bars), ticks_x=tuple(ticks), ticks_y=ticks_y)


def filters_plot(filters: Sequence[Filter]) -> Plot | None:
    """One row per filter that dropped something, as long as it dropped documents; None where none did."""
    dropping = [one for one in filters if one.dropped]
    if not dropping:
        return None
    most = max(one.dropped for one in dropping)
    height = _ROW_HEIGHT * len(dropping) + 2 * _TOP
    left, right = _ROW_LABEL, WIDTH - _ROW_VALUE
    bars = tuple(
        Bar(
            left,
            _TOP + number * _ROW_HEIGHT + 4,
            (right - left) * one.dropped / most,
            _ROW_HEIGHT - 8,
            one.name,
            f"{one.dropped:,} ({percent(one.share)})",
        )
        for number, one in enumerate(dropping)
    )
    return Plot(WIDTH, height, left, right, _TOP, height - _TOP, bars)


def ranks_plot(ranks: Sequence[Rank]) -> Plot:
    """Counts by rank, both axes logarithmic."""
    decades_x = max(1, math.ceil(math.log10(ranks[-1].rank)))
    decades_y = max(1, math.ceil(math.log10(ranks[0].count)))
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM

    def x(rank: int) -> float:
        return left + (right - left) * math.log10(rank) / decades_x

    def y(count: int) -> float:
        return bottom - (bottom - top) * math.log10(count) / decades_y

    return Plot(
        WIDTH,
        _HEIGHT,
        left,
        right,
        top,
        bottom,
        points=tuple((x(one.rank), y(one.count)) for one in ranks),
        ticks_x=tuple(Tick(x(10**power), axis_number(10**power)) for power in range(decades_x + 1)),
        ticks_y=tuple(
            Tick(y(10**power), axis_number(10**power)) for power in range(0, decades_y + 1, -(-decades_y // 6))
        ),
    )


def axis_number(number: int) -> str:
    """A number that fits beside an axis: 5,000, 20M, 3G."""
    for unit, factor in (("G", 10**9), ("M", 10**6)):
        if number >= factor:
            return f"{number / factor:,.10g}{unit}"
    return f"{number:,}"


def round_ticks(largest: int) -> list[int]:
    """Whole numbers from 0 to at least `largest`, in 2 to 5 equal steps of 1, 2 or 5 times a power of ten."""
    step = next(
        factor * 10**power
        for power in range(len(str(largest)) + 1)
        for factor in (1, 2, 5)
        if 5 * factor * 10**power >= largest
    )
    return list(range(0, largest + step, step))
