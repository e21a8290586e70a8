"""The report as one HTML page: tables and plots, without scripts and without anything from the network.

Called by `gpt-run report --output`. The page's text is in page.html, a Jinja template that escapes all it is given.
"""

from __future__ import annotations

from pathlib import Path

from trainer.durable import write_atomically
from trainer.metrics import console
from trainer.metrics.report import charts, wording
from trainer.metrics.report.build import RunReport
from trainer.metrics.report.compare import compared
from trainer.pages import wording as common
from trainer.pages.page import render

_TEMPLATE = Path(__file__).with_name("page.html")
# Of very many rows the page says how many it leaves out.
_MOST_ROWS = 1000


def render_page(run: RunReport, other: RunReport | None = None) -> str:
    """The page; with `other` its losses stand beside the run's, by tokens."""
    return render(
        _TEMPLATE,
        run=run,
        report=run.report,
        other=other,
        comparison=compared(run, other) if other is not None else [],
        axis=charts.TimeAxis(run.report),
        attempts=run.report.attempts[-_MOST_ROWS:],
        checkpoints=run.report.checkpoints.rows[-_MOST_ROWS:],
        charts=charts,
        wording=wording,
        common=common,
        console=console,
    )


def write_page(run: RunReport, file: Path, other: RunReport | None = None) -> None:
    """Write the page; the file is whole or as it was before."""
    write_atomically(file, render_page(run, other).encode())
