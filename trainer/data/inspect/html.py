"""The report as one HTML page: tables and plots, without scripts and without anything from the network.

Called by `gpt-run data inspect --html`. The page's text and colours are in page.html, a Jinja template that escapes all
it is given; docs/decisions/inspect-report.md says why it draws its plots itself.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trainer.data.inspect import charts, wording
from trainer.data.inspect.report import Report
from trainer.durable import write_atomically
from trainer.errors import UserError
from trainer.version import VERSION

_TEMPLATE = "page.html"


def render_page(report: Report) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return (
        environment.get_template(_TEMPLATE)
        .render(report=report, charts=charts, wording=wording, version=VERSION)
        .lstrip()
    )


def check_writable(file: Path) -> None:
    """See that the page can be written, before minutes are spent on reading. Makes the folder."""
    if file.exists() and not file.is_file():
        raise UserError(f"--html {file} is no file", expected="the path of a file", fix=f"--html {file}/report.html")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"--html {file}: {file.parent} is no folder", expected="a folder", fix="correct it") from error


def write_page(report: Report, file: Path) -> None:
    """Write the page; the file is whole or as it was before."""
    write_atomically(file, render_page(report).encode())
