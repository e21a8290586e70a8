"""The page's plots: loss, speed, where the time went, attempts, saves, hardware. Pure.

`trainer.metrics.report.html` fills them into the template. What is drawn over steps shows the run's curve without
forks; what is drawn over time shows all that was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from trainer.metrics.goodput import Bucket
from trainer.metrics.report.build import RunReport
from trainer.metrics.report.folds import TrainingLine
from trainer.metrics.report.model import AttemptRow, End, Report
from trainer.metrics.report.wording import BUCKETS, how_ended
from trainer.pages.plots import (
    Bar,
    Curve,
    Line,
    Plot,
    Point,
    Scale,
    Tick,
    curves_plot,
    empty_plot,
    rows_plot,
    ticks_between,
    x_ticks,
)
from trainer.pages.wording import percent, size

_MOST_AREA_POINTS = 600
_TIMELINE_HEIGHT = 160
# Narrower ones would vanish.
_NARROWEST = 1.0
# A curve of more points is thinned.
PLOT_COLUMNS = 624


class TimeAxis:
    """Time since a run's start, in the unit that suits its length."""

    def __init__(self, report: Report) -> None:
        self._start = report.started_at.timestamp() if report.started_at else None
        self._wall_seconds = span = max(report.wall_seconds or 0.0, 0.0)
        self._unit_seconds, self.unit = next(
            ((seconds, unit) for limit, seconds, unit in ((120, 1, "seconds"), (7200, 60, "minutes")) if span < limit),
            (3600, "hours") if span < 4 * 86400 else (86400, "days"),
        )

    def of(self, seconds: float) -> float:
        """The place in time of seconds since the epoch; a clock that was set back does not go before the start."""
        if self._start is None:
            self._start = seconds
        return max(seconds - self._start, 0.0) / self._unit_seconds

    @property
    def span(self) -> tuple[float, float]:
        """From the run's start to its last sign: all that is drawn over time stands one above the other."""
        return 0.0, (self._wall_seconds or 1.0) / self._unit_seconds


def loss_plot(run: RunReport, other: RunReport | None = None) -> Plot | None:
    """Training and validation loss: of one run by steps, of two by tokens."""
    curves = []
    for one, styles in ((run, ("curve", "curve second")), (other, ("curve third", "curve fourth"))):
        if one is None:
            continue
        for name, style in zip(("loss", "validation_loss"), styles, strict=True):
            xs = [(line.step if other is None else line.tokens, getattr(line, name)) for line in one.kept]
            points = tuple(Point(x, y) for x, y in xs if x is not None and y is not None)
            curves.append(Curve((points,) if points else (), style))
    return curves_plot(curves, from_zero=False)


def speed_plot(run: RunReport, axis: TimeAxis) -> Plot | None:
    """Tokens per second over time."""
    return _over_time(run, axis, lambda line: line.tokens_per_second)


def mfu_plot(run: RunReport, axis: TimeAxis) -> Plot | None:
    """MFU over time."""
    return _over_time(run, axis, lambda line: line.mfu_ratio, percent)


def memory_plot(run: RunReport, axis: TimeAxis) -> Plot | None:
    """Peak memory of rank 0 over time."""
    return _over_time(run, axis, lambda line: line.memory_bytes, size)


def gpus_plot(run: RunReport, axis: TimeAxis) -> Plot | None:
    """Mean utilization of the GPUs over time, and the memory of the fullest."""
    curves = []
    for name, style in (("utilization_ratio", "curve"), ("memory_ratio", "curve second")):
        pieces = tuple(
            tuple(Point(axis.of(p.seconds), getattr(p, name)) for p in group if getattr(p, name) is not None)
            for _, group in groupby(run.gpus, key=lambda point: point.attempt)
        )
        curves.append(Curve(tuple(piece for piece in pieces if piece), style))
    return curves_plot(curves, span=axis.span, label_y=percent)


def goodput_plot(run: RunReport, axis: TimeAxis) -> Plot | None:
    """Areas, one upon the other: what share of the run's life, up to each moment, went to each bucket."""
    every = -(-len(run.goodput) // _MOST_AREA_POINTS) or 1
    points = [point for point in run.goodput if sum(point.buckets) > 0]
    points = points[::-every][::-1]  # the last one is the truth of today
    if len(points) < 2:
        return None
    plot = empty_plot()
    xs = [axis.of(point.seconds) for point in points]
    x = Scale(*axis.span, plot.left, plot.right)
    y = Scale(0.0, 1.0, plot.bottom, plot.top)
    place = {bucket: number for number, bucket in enumerate(Bucket)}
    floor = [0.0] * len(points)
    areas = []
    for bucket in BUCKETS:
        roof = [low + p.buckets[place[bucket]] / sum(p.buckets) for low, p in zip(floor, points, strict=True)]
        if roof != floor:
            upper = [Point(x.place(at), y.place(value)) for at, value in zip(xs, roof, strict=True)]
            lower = [Point(x.place(at), y.place(value)) for at, value in zip(xs, floor, strict=True)]
            areas.append(Line((*upper, *reversed(lower)), f"area {bucket}"))
        floor = roof
    ticks_y = tuple(Tick(y.place(mark / 4), f"{25 * mark}%") for mark in range(5))
    return replace(plot, areas=tuple(areas), ticks_x=x_ticks(x), ticks_y=ticks_y)


def timeline_plot(run: RunReport, axis: TimeAxis) -> Plot | None:
    """Attempts over time, as high as they had workers; white is time in which nobody trained."""
    rows = [row for row in run.report.attempts if row.started_at and row.last_sign_at]
    if not rows:
        return None
    spans = [_span(row, axis) for row in rows]
    plot = empty_plot(_TIMELINE_HEIGHT)
    x = Scale(*axis.span, plot.left, plot.right)
    marks = [mark for mark in ticks_between(0, max(row.world_size or 1 for row in rows)) if mark == int(mark)]
    y = Scale(0.0, marks[-1], plot.bottom, plot.top)
    bars = []
    for row, (start, stop) in zip(rows, spans, strict=True):
        left, top = x.place(start), y.place(row.world_size or 1)
        width = max(x.place(stop) - left, _NARROWEST)
        label = f"attempt {row.attempt}, {row.world_size or 'unknown'} workers"
        words = f"{how_ended(row.end)}; steps {row.first_step} to {row.last_step}"
        bars.append(Bar(left, top, width, plot.bottom - top, label, words, end_style(row.end)))
    ticks_y = tuple(Tick(y.place(mark), f"{mark:.0f}") for mark in marks)
    return replace(plot, bars=tuple(bars), ticks_x=x_ticks(x), ticks_y=ticks_y)


def end_style(end: End | None) -> str:
    """The class of an attempt that ended so."""
    if end is None:
        return "open"
    return "counted" if end.counted else "finished" if end.reason in ("finished", "early_stopping") else "free"


def restarts_plot(report: Report) -> Plot | None:
    """A row for each reason."""
    rows = [(one.reason, one.count, f"{one.count:,} ({one.counted:,} counted)") for one in report.restarts]
    return rows_plot(rows) if rows else None


def saves_plot(report: Report) -> Plot | None:
    """A point for each checkpoint that is still there: how long its save took."""
    pieces = tuple((Point(row.step, row.duration_seconds),) for row in report.checkpoints.rows)
    return curves_plot([Curve(pieces)]) if len(pieces) > 1 else None


def is_thinned(run: RunReport) -> bool:
    """Whether some curve has more points than are drawn."""
    return max(len(run.lines), len(run.gpus)) > PLOT_COLUMNS


def _over_time(
    run: RunReport,
    axis: TimeAxis,
    value: Callable[[TrainingLine], float | None],
    label_y: Callable[[float], str] | None = None,
) -> Plot | None:
    return curves_plot([Curve(tuple(_pieces(run.lines, axis, value)))], span=axis.span, label_y=label_y)


def _pieces(
    lines: Sequence[TrainingLine], axis: TimeAxis, value: Callable[[TrainingLine], float | None]
) -> Iterable[tuple[Point, ...]]:
    """A piece for each attempt, broken where its clock went back."""
    for _, group in groupby(lines, key=lambda line: line.attempt):
        points = [
            Point(axis.of(line.seconds), figure)
            for line in group
            if line.seconds is not None and (figure := value(line)) is not None
        ]
        breaks = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(points)) if b.x < a.x), len(points)]
        yield from (tuple(points[start:stop]) for start, stop in pairwise(breaks) if stop > start)


def _span(row: AttemptRow, axis: TimeAxis) -> tuple[float, float]:
    assert row.started_at is not None
    assert row.last_sign_at is not None
    start = axis.of(row.started_at.timestamp())
    return start, max(axis.of(row.last_sign_at.timestamp()), start)
