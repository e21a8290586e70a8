"""The report as one HTML page: tables and plots, without scripts and without anything from the network.

Called by `gpt-run data inspect --html`. The page's text is in page.html, a Jinja template that escapes all it is given.
"""

from __future__ import annotations

from pathlib import Path

from trainer.data.inspect import charts, wording
from trainer.data.inspect.report import Report
from trainer.durable import write_atomically
from trainer.pages import wording as common
from trainer.pages.page import check_writable as check
from trainer.pages.page import render

_TEMPLATE = Path(__file__).with_name("page.html")


def render_page(report: Report) -> str:
    """The page."""
    return render(_TEMPLATE, report=report, charts=charts, wording=wording, common=common)


def check_writable(file: Path) -> None:
    """See that the page can be written, before minutes are spent on reading. Makes the folder."""
    check(file, "--html")


def write_page(report: Report, file: Path) -> None:
    """Write the page; the file is whole or as it was before."""
    write_atomically(file, render_page(report).encode())
