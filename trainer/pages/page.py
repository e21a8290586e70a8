"""One HTML file without scripts and without anything from the network, made by a Jinja template.

A report brings its own template, which extends base.html (colours, type, a policy that refuses requests) and imports
parts.html (axes, bars, curves). docs/decisions/inspect-report.md says why plots are drawn this way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trainer.errors import UserError
from trainer.paths import require_local
from trainer.version import VERSION


def render(template: Path, **values: Any) -> str:
    """The page that `template` makes of `values`; all of them are escaped."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(version=VERSION, **values).lstrip()


def check_writable(file: Path, option: str) -> None:
    """See that the page can be written, before minutes are spent on reading. Makes the folder."""
    require_local(file, option, fix="write to a local disk")
    if file.exists() and not file.is_file():
        fix = f"{option} {file}/report.html"
        raise UserError(f"{option} {file} is no file", expected="the path of a file", fix=fix)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(
            f"{option} {file}: {file.parent} is no folder", expected="a folder", fix="correct it"
        ) from error
