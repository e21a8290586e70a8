"""The page of `gpt-run scaling-law fit --output`: loss against compute, isoFLOP curves, residuals."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainer import pages
from trainer.durable import write_atomically
from trainer.metrics.console import human_number
from trainer.pages.page import render
from trainer.pages.plots import SERIES, Curve, Plot, Point, curves_over_log
from trainer.sweep.law.report import LawReport
from trainer.sweep.law.text import POINT_COLUMNS, answers, coefficient_rows, heading, point_rows

_TEMPLATE = Path(pages.__file__).with_name("scaling_law.html")
_CURVE_POINTS = 60
_BEYOND = 3.0
"""How far isoFLOP curves go beyond the runs' sizes."""


class Drawing(NamedTuple):
    """A plot, and (style, words) of its series."""

    plot: Plot | None
    series: tuple[tuple[str, str], ...]


def write_page(report: LawReport, file: Path) -> None:
    """Write the page; the file is whole or as it was before."""
    page = render(
        _TEMPLATE,
        heading=heading(report),
        report=report,
        coefficients=list(coefficient_rows(report)),
        point_columns=POINT_COLUMNS,
        points=list(point_rows(report)),
        answers=list(answers(report)),
        compute=compute_drawing(report),
        isoflop=isoflop_drawing(report),
        residuals=residual_drawing(report),
    )
    write_atomically(file, page.encode())


def compute_drawing(report: LawReport) -> Drawing:
    """Loss over compute: the runs as dots, the law as a line for each size."""
    curves: list[Curve] = []
    series: list[tuple[str, str]] = []
    for number, size in enumerate(_sizes(report)):
        style = SERIES[number % len(SERIES)]
        own = [point for point in report.points if point.parameters == size]
        tokens = [point.tokens for point in own]
        line = tuple(
            Point(6 * size * each, report.law.loss(size, each))
            for each in np.geomspace(min(tokens), max(tokens), _CURVE_POINTS)
        )
        dots = tuple((Point(6.0 * size * point.tokens, point.loss),) for point in own)
        curves.append(Curve((line, *dots) if len(set(tokens)) > 1 else dots, f"curve {style}"))
        series.append((style, f"{human_number(size)} parameters"))
    return Drawing(curves_over_log(curves, _decades(report)), tuple(series))


def isoflop_drawing(report: LawReport) -> Drawing:
    """Loss over size at equal compute, by the law, with a dot where it is least (Hoffmann et al. 2022, figure 3)."""
    computes = sorted(6.0 * point.parameters * point.tokens for point in report.points)
    sizes = _sizes(report)
    curves: list[Curve] = []
    series: list[tuple[str, str]] = []
    marks: list[float] = []
    for number, flops in enumerate(np.geomspace(computes[0], computes[-1], 4)):
        style = SERIES[number % len(SERIES)]
        best, tokens = report.law.optimum(float(flops))
        low, high = min(sizes[0] / _BEYOND, best / _BEYOND), max(sizes[-1] * _BEYOND, best * _BEYOND)
        line = tuple(
            Point(float(size), report.law.loss(size, flops / (6 * size)))
            for size in np.geomspace(low, high, _CURVE_POINTS)
        )
        # What lies far above the least says nothing and would flatten the rest.
        least = report.law.loss(best, tokens)
        line = tuple(point for point in line if point.y < least * 1.2)
        curves.append(Curve((line, (Point(best, least),)), f"curve {style}"))
        series.append((style, f"{flops:.2g} FLOP"))
        marks += [line[0].x, line[-1].x]
    return Drawing(curves_over_log(curves, [min(marks), *_between(min(marks), max(marks)), max(marks)]), tuple(series))


def residual_drawing(report: LawReport) -> Drawing:
    """How far the law is off, in percent, over compute."""
    dots = tuple((Point(6.0 * p.parameters * p.tokens, 100 * p.residual),) for p in report.points)
    decades = _decades(report)
    zero = (Point(decades[0], 0.0), Point(decades[-1], 0.0))
    return Drawing(curves_over_log([Curve((zero, *dots), "curve bar")], decades), ())


def _sizes(report: LawReport) -> list[int]:
    return sorted({point.parameters for point in report.points})


def _decades(report: LawReport) -> list[float]:
    computes = [6.0 * point.parameters * point.tokens for point in report.points]
    return [min(computes), *_between(min(computes), max(computes)), max(computes)]


def _between(low: float, high: float) -> list[float]:
    """Powers of ten strictly between two numbers, not too close to either."""
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [10.0**e for e in exponents if low * 1.5 < 10.0**e < high / 1.5]
