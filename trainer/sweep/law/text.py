"""A fitted law on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from trainer.pages import terminal
from trainer.sweep.law.report import COEFFICIENTS, LawReport

NAMES = {"irreducible": "E", "a": "A", "b": "B", "alpha": "alpha", "beta": "beta"}
POINT_COLUMNS = (">parameters", ">tokens", ">loss", ">by the law", ">off", "run")


def print_law(report: LawReport, console: Console) -> None:
    """Coefficients, runs, answers, warnings."""
    terminal.fit(console)
    terminal.title(console, heading(report))
    table = terminal.make_table("", ">value", ">95% from", ">to")
    for row in coefficient_rows(report):
        table.add_row(*row)
    terminal.show(console, table)
    runs = terminal.make_table(*POINT_COLUMNS)
    for cells in point_rows(report):
        runs.add_row(*cells)
    terminal.title(console, f"{len(report.points)} runs, the law is off by at most {report.largest_residual:.2%}")
    terminal.show(console, runs)
    for sentence in (*answers(report), *(f"warning: {text}" for text in report.warnings)):
        terminal.say(console, sentence)


def heading(report: LawReport) -> str:
    """The law with its coefficients."""
    return (
        f"{report.name}: L(N, D) = {report.irreducible:.4g} + {report.a:.4g} / N^{report.alpha:.4g} + "
        f"{report.b:.4g} / D^{report.beta:.4g}"
    )


def coefficient_rows(report: LawReport) -> Iterator[tuple[str, str, str, str]]:
    """(name, value, low, high)."""
    for name in COEFFICIENTS:
        low, high = report.intervals[name]
        yield NAMES[name], f"{getattr(report, name):.4g}", f"{low:.4g}", f"{high:.4g}"


def point_rows(report: LawReport) -> Iterator[tuple[str, ...]]:
    """The runs, by size and length."""
    for point in sorted(report.points, key=lambda point: (point.parameters, point.tokens)):
        name = point.run.rstrip("/").rsplit("/", 1)[-1]
        losses = (f"{point.loss:.4f}", f"{point.fitted:.4f}", f"{point.residual:+.2%}")
        yield (f"{point.parameters:,}", f"{point.tokens:,}", *losses, name)


def answers(report: LawReport) -> Iterator[str]:
    """What was asked for."""
    for one in report.predictions:
        low, high = one.interval
        yield (
            f"{one.parameters:.4g} parameters after {one.tokens:.4g} tokens: loss {one.loss:.4f} "
            f"(95%: {low:.4f} to {high:.4f})"
        )
    for best in report.optima:
        sizes, tokens, losses = best.parameters_interval, best.tokens_interval, best.loss_interval
        yield (
            f"{best.flops:.4g} FLOP are best spent on {best.parameters:.3g} parameters ({sizes[0]:.3g} to "
            f"{sizes[1]:.3g}) and {best.tokens:.3g} tokens ({tokens[0]:.3g} to {tokens[1]:.3g}): loss "
            f"{best.loss:.4f} ({losses[0]:.4f} to {losses[1]:.4f})"
        )
