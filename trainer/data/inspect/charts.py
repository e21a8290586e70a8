"""The page's plots: lengths of documents, what filters dropped, counts of ids by rank. Pure.

`trainer.data.inspect.html` fills them into the template.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from trainer.data.inspect.report import Bucket, Filter, Rank
from trainer.data.inspect.wording import bucket_label
from trainer.pages.plots import Bar, Line, Plot, Point, Tick, axis_number, empty_plot, rows_plot
from trainer.pages.wording import percent

_MOST_LABELS = 12


def lengths_plot(histogram: Sequence[Bucket]) -> Plot:
    """One column per bucket, as high as it has documents."""
    documents = sum(bucket.documents for bucket in histogram)
    marks = round_ticks(max(bucket.documents for bucket in histogram))
    plot = empty_plot()
    left, right, top, bottom = plot.left, plot.right, plot.top, plot.bottom
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
    return replace(plot, bars=tuple(bars), ticks_x=tuple(ticks), ticks_y=ticks_y)


def filters_plot(filters: Sequence[Filter]) -> Plot | None:
    """One row per filter that dropped something, as long as it dropped documents; None where none did."""
    dropping = [one for one in filters if one.dropped]
    if not dropping:
        return None
    return rows_plot([(one.name, one.dropped, f"{one.dropped:,} ({percent(one.share)})") for one in dropping])


def ranks_plot(ranks: Sequence[Rank]) -> Plot:
    """Counts by rank, both axes logarithmic."""
    decades_x = max(1, math.ceil(math.log10(ranks[-1].rank)))
    decades_y = max(1, math.ceil(math.log10(ranks[0].count)))
    plot = empty_plot()
    left, right, top, bottom = plot.left, plot.right, plot.top, plot.bottom

    def x(rank: int) -> float:
        return left + (right - left) * math.log10(rank) / decades_x

    def y(count: int) -> float:
        return bottom - (bottom - top) * math.log10(count) / decades_y

    return replace(
        plot,
        lines=(Line(tuple(Point(x(one.rank), y(one.count)) for one in ranks)),),
        ticks_x=tuple(Tick(x(10**power), axis_number(10**power)) for power in range(decades_x + 1)),
        ticks_y=tuple(
            Tick(y(10**power), axis_number(10**power)) for power in range(0, decades_y + 1, -(-decades_y // 6))
        ),
    )


def round_ticks(largest: int) -> list[int]:
    """Whole numbers from 0 to at least `largest`, in 2 to 5 equal steps of 1, 2 or 5 times a power of ten."""
    step = next(
        factor * 10**power
        for power in range(len(str(largest)) + 1)
        for factor in (1, 2, 5)
        if 5 * factor * 10**power >= largest
    )
    return list(range(0, largest + step, step))
