"""Tables and lines of a report on a terminal, between 80 and 100 columns wide. Text from elsewhere acts on nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trainer.pages.wording import visible

WIDEST_COLUMNS = 100


def fit(console: Console) -> None:
    """As wide as the console is, but not wider than reads well."""
    # Columns that would wrap on a narrow terminal stay readable there as 80 columns that the terminal wraps.
    console.width = max(80, min(console.width, WIDEST_COLUMNS))


def make_table(*columns: str) -> Table:
    """Columns by their titles; `>` in front of one aligns it to the right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    return made


def facts(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """A line for each (name, text); a long text wraps beside its name."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, text in rows:
        grid.add_row(Text(name, style="dim"), Text(visible(text)))
    show(console, grid)


def title(console: Console, text: str) -> None:
    """The title of a part, with room above."""
    console.print()
    say(console, text, style="bold")


def show(console: Console, renderable: Any) -> None:
    """A table, indented."""
    console.print(Padding(renderable, (0, 0, 0, 2), expand=False))


def say(console: Console, text: str, *, indent: int = 0, style: str = "") -> None:
    """A line or paragraph."""
    # As Text: what comes from data is never read as markup.
    console.print(Padding(Text(visible(text), style=style), (0, 0, 0, indent), expand=False))
