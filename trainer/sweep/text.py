"""The table of a sweep on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from trainer.pages import terminal
from trainer.pages.wording import visible
from trainer.sweep.result import Row, SweepResult

COLUMNS = (">loss", ">difference", ">step", "state", "runs")


def print_result(result: SweepResult, console: Console) -> None:
    """Rows, the best, what to make of it."""
    console.width = max(console.width, 80)
    table = terminal.make_table(*short_names(result.keys), *COLUMNS)
    for column in table.columns[:-1]:  # where there is no room, the runs' names wrap
        column.no_wrap = True
    for cells in table_rows(result):
        table.add_row(*(Text(visible(cell)) for cell in cells))
    terminal.title(console, result.name)
    terminal.show(console, table)
    for sentence in sentences(result):
        terminal.say(console, sentence)
    for row in result.rows:
        if row.message:
            terminal.say(console, f"{', '.join(row.runs)}: {row.message}")


def table_rows(result: SweepResult) -> Iterator[tuple[str, ...]]:
    """The cells of each row; also the page's."""
    for row in result.rows:
        values = tuple(str(row.settings.get(key, "")) for key in result.keys)
        step = "" if row.step is None else f"{row.step:,}"
        yield (*values, loss_words(row), _difference(row), step, row.state, ", ".join(row.runs))


def short_names(keys: Sequence[str]) -> list[str]:
    """The last parts of keys, where they tell them apart."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return last if len(set(last)) == len(last) else list(keys)


def sentences(result: SweepResult) -> Iterator[str]:
    """Which is best, and what to make of it."""
    if result.best is not None:
        settings = " ".join(f"{key}={value}" for key, value in result.best.settings.items())
        yield f"best: {settings} ({loss_words(result.best)})"
    yield from result.notes


def loss_words(row: Row) -> str:
    """`3.4120 +- 0.0040`, as far as known."""
    if row.validation_loss is None:
        return "-"
    return f"{row.validation_loss:.4f}" + ("" if row.standard_error is None else f" +- {row.standard_error:.4f}")


def _difference(row: Row) -> str:
    if row.difference is None:
        return ""
    return f"{row.difference:+.4f}" + ("" if not row.difference_error else f" +- {row.difference_error:.4f}")
