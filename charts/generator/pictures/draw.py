"""Draws a dashboard with matplotlib: each kind of panel that the dashboards have, at its place on the grid.

What a person sees in Grafana, not its pixels: titles, numbers, curves, legends, thresholds and marks.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from charts.generator.pictures.prometheus import Prometheus, Series
from charts.generator.pictures.units import written

Panel = dict[str, Any]
# Of a dashboard of 24 columns; and of one unit of height.
_WIDTH_INCHES, _UNIT_INCHES = 20.0, 0.36
_COLUMNS = 24
_LEGEND_ENTRIES = 12
_DAY_SECONDS = 86400
_TICKS_SECONDS = (60, 300, 900, 1800, 3600, 10800, 21600, 43200, _DAY_SECONDS, 2 * _DAY_SECONDS, 7 * _DAY_SECONDS)
_MOST_TICKS = 8
_COLOURS = {"green": "#2e9e4f", "orange": "#ef8a17", "red": "#d1344b", "purple": "#8a4fbf", "blue": "#3274d9"}
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "svg.hashsalt": "gpt-run",
}


def picture(dashboard: Panel, source: Prometheus, file: Path) -> list[str]:
    """Draw a dashboard into a file (png or svg); the titles of panels without any data."""
    panels = dashboard["panels"]
    units = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 1
    empty = []
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_INCHES, units * _UNIT_INCHES), dpi=80, facecolor="white")
        figure.text(0.01, 1 - 0.5 / units, dashboard["title"], fontsize=13, weight="bold", va="center")
        marks = _marks(dashboard, source)
        for panel in panels:
            place = panel["gridPos"]
            if panel["type"] == "row":
                figure.text(0.01, 1 - (place["y"] + 1.6) / units, panel["title"], fontsize=10, va="center")
                continue
            series = [item for target in panel["targets"] for item in source.series(target, panel["title"])]
            axes = figure.add_axes(_box(place, units, names=panel["type"] in ("bargauge", "state-timeline")))
            axes.set_title(panel["title"])
            if any(item.points for item in series):
                _KINDS[panel["type"]](axes, panel, series, source, marks)
            else:
                empty.append(panel["title"])
                _nothing(axes)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    return empty


def _box(place: dict[str, int], units: int, *, names: bool) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of a panel's axes, as shares of the figure; names stand left of some."""
    left, right = place["x"] / _COLUMNS + (0.08 if names else 0.045), (place["x"] + place["w"]) / _COLUMNS - 0.005
    top, bottom = place["y"] + 1 + 0.9, place["y"] + place["h"] + 1 - 1.1
    return left, 1 - bottom / units, right - left, (bottom - top) / units


def _nothing(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no data", ha="center", va="center", color="#999999")


def _marks(dashboard: Panel, source: Prometheus) -> list[tuple[str, float]]:
    """(colour, moment) of the annotations."""
    marks = []
    for annotation in dashboard["annotations"]["list"]:
        if annotation.get("builtIn"):
            continue
        for _, points in source.ranged(annotation["expr"]):
            for moment, value in points:
                if value > 0:
                    at = value / 1000 if annotation.get("useValueForTime") else moment
                    marks.append((_COLOURS[annotation["iconColor"]], at))
    inside = source.span
    return sorted({mark for mark in marks if inside.since <= mark[1] <= inside.until})


def _stat(axes: Axes, panel: Panel, series: list[Series], source: Prometheus, _: Any) -> None:
    axes.set_axis_off()
    mode = panel["options"]["textMode"]
    shown = [item for item in series if item.points]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for index, item in enumerate(shown):
        value = item.points[-1][1]
        text = item.name if mode == "name" else written(value, unit, source.span.until)
        across = (index + 0.5) / len(shown)
        size = 20 if len(shown) < 3 else 12
        axes.text(across, 0.45, text, ha="center", va="center", fontsize=size, color=_colour(panel, value))
        if mode == "value_and_name":
            axes.text(across, 0.02, item.name, ha="center", va="center", color="#555555")


def _colour(panel: Panel, value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return _COLOURS[reached[-1]]


def _lines(axes: Axes, panel: Panel, series: list[Series], source: Prometheus, marks: list[tuple[str, float]]) -> None:
    custom, defaults = panel["fieldConfig"]["defaults"]["custom"], panel["fieldConfig"]["defaults"]
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    moments = source.span.moments()
    base = [0.0] * len(moments)
    for item in series:
        values = _on_grid(item, moments, source.span.step)
        if custom.get("drawStyle") == "bars":
            heights = [value or 0.0 for value in values]
            axes.bar(moments, heights, width=source.span.step, bottom=base if stacked else None, label=item.name)
        elif stacked:
            tops = [low + (value or 0.0) for low, value in zip(base, values, strict=True)]
            axes.fill_between(moments, base, tops, step="post", alpha=0.6, linewidth=0, label=item.name)
        else:
            gaps = [float("nan") if value is None else value for value in values]
            axes.plot(moments, gaps, linewidth=1, label=item.name)
        if stacked:
            base = [low + (value or 0.0) for low, value in zip(base, values, strict=True)]
    for colour, moment in marks:
        axes.axvline(moment, color=colour, linewidth=0.7, linestyle=":")
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in defaults["thresholds"]["steps"][1:]:
            axes.axhline(step["value"], color=_COLOURS[step["color"]], linewidth=0.7, linestyle="--")
    if custom.get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log")
    if "max" in defaults:
        axes.set_ylim(defaults["min"], defaults["max"] * 1.02)
    _time_axis(axes, source)
    _value_axis(axes, panel)
    _legend(axes, series)


def _on_grid(item: Series, moments: list[float], step: int) -> list[float | None]:
    """Values at the moments; None where there is none."""
    values = {round((moment - moments[0]) / step): value for moment, value in item.points}
    return [values.get(index) for index in range(len(moments))]


def _states(
    axes: Axes, _panel: Panel, series: list[Series], source: Prometheus, marks: list[tuple[str, float]]
) -> None:
    for row, item in enumerate(reversed(series)):
        bands = [(moment, source.span.step) for moment, value in item.points if value == 1]
        axes.broken_barh(bands, (row + 0.1, 0.8), facecolors=_COLOURS["blue"])
    axes.set_yticks([row + 0.5 for row in range(len(series))], [item.name for item in reversed(series)])
    for colour, moment in marks:
        axes.axvline(moment, color=colour, linewidth=0.7, linestyle=":")
    _time_axis(axes, source)


def _bars(axes: Axes, panel: Panel, series: list[Series], _source: Prometheus, _: Any) -> None:
    shown = [item for item in reversed(series) if item.points]
    values = [item.points[-1][1] for item in shown]
    axes.barh([item.name for item in shown], values, color=_COLOURS["green"])
    for row, value in enumerate(values):
        axes.text(value, row, " " + written(value, panel["fieldConfig"]["defaults"]["unit"]), va="center")
    axes.set_xlim(0, max([*values, 1e-9]) * 1.25)
    axes.set_xticks([])


def _table(axes: Axes, panel: Panel, series: list[Series], source: Prometheus, _: Any) -> None:
    """Rows by run, as the transformations `merge` and `organize` make them."""
    axes.set_axis_off()
    overrides = panel["fieldConfig"]["overrides"]
    units = {item["matcher"]["options"]: item["properties"][0]["value"] for item in overrides}
    named = next(item["options"] for item in panel["transformations"] if item["id"] == "organize")["renameByName"]
    hidden = ("__name__", "namespace", "config_sha256", "git_commit", "image")
    rows: dict[str, dict[str, str]] = {}
    for item in series:
        row = rows.setdefault(item.labels["run"], {})
        row |= {key: value for key, value in item.labels.items() if key not in hidden}
        column = named.get(f"Value #{item.ref}")
        if column and item.points:
            row[column] = written(item.points[-1][1], units[column], source.span.until)
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    cells = [[row.get(column, "") for column in columns] for _, row in sorted(rows.items())]
    axes.table(cellText=cells, colLabels=columns, loc="upper left", cellLoc="left", edges="horizontal")


def _over(axes: Axes, panel: Panel, series: list[Series], _source: Prometheus, _: Any) -> None:
    """B over A for each run, joined by time, as the transformations do it."""
    across = {item.labels["run"]: dict(item.points) for item in series if item.ref == "A"}
    curves = [item for item in series if item.ref == "B" and item.labels["run"] in across]
    for item in curves:
        x = across[item.labels["run"]]
        pairs = [(x[moment], value) for moment, value in item.points if moment in x]
        axes.plot([pair[0] for pair in pairs], [pair[1] for pair in pairs], linewidth=1.5, label=item.labels["run"])
    if panel["fieldConfig"]["defaults"]["custom"].get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, "si:tok")))
    _value_axis(axes, panel)
    _legend(axes, curves)


def _time_axis(axes: Axes, source: Prometheus) -> None:
    since, until = source.span.since, source.span.until
    axes.set_xlim(since, until)
    gap = next((gap for gap in _TICKS_SECONDS if (until - since) / gap <= _MOST_TICKS), _TICKS_SECONDS[-1])
    first = -(-since // gap) * gap
    axes.xaxis.set_major_locator(
        FixedLocator([first + index * gap for index in range(int((until - first) // gap) + 1)])
    )
    form = "%H:%M" if gap < _DAY_SECONDS else "%d %b"
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: datetime.fromtimestamp(value, UTC).strftime(form)))


def _value_axis(axes: Axes, panel: Panel) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, unit)))


def _legend(axes: Axes, series: list[Series]) -> None:
    if 0 < len(series) <= _LEGEND_ENTRIES:
        axes.legend(loc="upper left", fontsize=7, framealpha=0.7, ncols=-(-len(series) // 5))


_KINDS: dict[str, Callable[[Axes, Panel, list[Series], Prometheus, list[tuple[str, float]]], None]] = {
    "stat": _stat,
    "timeseries": _lines,
    "state-timeline": _states,
    "bargauge": _bars,
    "table": _table,
    "xychart": _over,
}
