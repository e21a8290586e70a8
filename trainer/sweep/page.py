"""The page of `gpt-run sweep --output`: the table, and loss against the key that was varied most, a line per rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from trainer import pages
from trainer.durable import write_atomically
from trainer.pages.page import render
from trainer.pages.plots import SERIES, Curve, Plot, Point, curves_over_log
from trainer.sweep.axes import canonical
from trainer.sweep.result import Row, SweepResult, is_number
from trainer.sweep.text import COLUMNS, sentences, table_rows

_TEMPLATE = Path(pages.__file__).with_name("sweep.html")
_PREFERRED = "optimizer.lr"


class Drawing(NamedTuple):
    """A plot over one key."""

    key: str
    plot: Plot | None
    series: tuple[tuple[str, str], ...]
    """(style, words) of its lines."""


def write_page(result: SweepResult, file: Path) -> None:
    """Write the page; the file is whole or as it was before."""
    page = render(
        _TEMPLATE,
        result=result,
        drawing=loss_drawing(result),
        columns=(*result.keys, *COLUMNS),
        rows=list(table_rows(result)),
        sentences=list(sentences(result)),
    )
    write_atomically(file, page.encode())


def loss_drawing(result: SweepResult) -> Drawing | None:
    """Loss of finished combinations over a key on a logarithmic scale; None where no key has two positive numbers."""
    rows = [row for row in result.rows if row.state == "finished" and row.validation_loss is not None]
    key = _x_key(result.keys, rows)
    if key is None:
        return None
    series: dict[str, list[Row]] = {}
    for row in rows:
        rest = {name: value for name, value in row.settings.items() if name != key}
        series.setdefault(canonical(rest), []).append(row)
    curves: list[Curve] = []
    legend: list[tuple[str, str]] = []
    for number, own in enumerate(series.values()):
        style = SERIES[number % len(SERIES)]
        points = sorted(Point(row.settings[key], row.validation_loss or 0.0) for row in own)
        # A line through them, and a dot for each.
        curves.append(Curve((tuple(points), *((point,) for point in points)), f"curve {style}"))
        rest = {name: value for name, value in own[0].settings.items() if name != key}
        legend.append((style, " ".join(f"{name}={value}" for name, value in rest.items()) or "validation loss"))
    return Drawing(key, curves_over_log(curves, sorted({row.settings[key] for row in rows})), tuple(legend))


def _x_key(keys: tuple[str, ...], rows: list[Row]) -> str | None:
    """The learning rate if it was varied, else the key of most values."""

    def values(key: str) -> set[float]:
        found: list[Any] = [row.settings.get(key) for row in rows]  # a value may be a list, which no set takes
        return set(filter(None, found)) if all(is_number(each) and each > 0 for each in found) else set()

    varied = [key for key in keys if len(values(key)) > 1]
    if _PREFERRED in varied:
        return _PREFERRED
    return max(varied, key=lambda key: len(values(key)), default=None)
