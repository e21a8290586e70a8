"""Two runs side by side, as far as both got. Pure; shared by the text and the page."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.metrics.console import human_number, human_seconds
from trainer.metrics.report.build import RunReport
from trainer.metrics.report.folds import TrainingLine
from trainer.metrics.report.model import Report
from trainer.metrics.report.wording import money, number
from trainer.pages.wording import percent, size


def compared(first: RunReport, second: RunReport) -> list[tuple[str, str, str]]:
    """(name, figure of the first, figure of the second) of what at least one of them knows."""
    pairs = zip(_figures(first.report), _figures(second.report), strict=True)
    rows = [(name, one, two) for (name, one), (_, two) in pairs if (one, two) != ("-", "-")]
    for name in ("loss", "validation_loss"):
        if (found := at_equal_tokens(first, second, name)) is not None:
            tokens, one, two = found
            rows.append((f"{name.replace('_', ' ')} at {human_number(tokens)} tokens", f"{one:.4f}", f"{two:.4f}"))
    return rows


def at_equal_tokens(first: RunReport, second: RunReport, name: str) -> tuple[int, float, float] | None:
    """(tokens, figure of the first, of the second) where the run that got less far has its newest `name`.

    The other one's figure is that of its newest line up to there. None where one has none.
    """
    lines = [[line for line in run.kept if getattr(line, name) is not None and line.tokens] for run in (first, second)]
    if not all(lines):
        return None
    tokens = min(_tokens(own[-1]) for own in lines)
    one, two = (_newest(own, tokens, name) for own in lines)
    return None if one is None or two is None else (tokens, one, two)


def _newest(lines: Sequence[TrainingLine], tokens: int, name: str) -> float | None:
    return next((float(getattr(line, name)) for line in reversed(lines) if _tokens(line) <= tokens), None)


def _tokens(line: TrainingLine) -> int:
    return line.tokens or 0


def _figures(report: Report) -> list[tuple[str, str]]:
    speed, goodput, cost = report.performance, report.goodput, report.cost
    return [
        ("steps", number(report.step, "{:,}")),
        ("tokens", "-" if report.tokens is None else human_number(report.tokens)),
        ("loss", number(report.loss, "{:.4f}")),
        ("best validation loss", number(report.best_validation_loss, "{:.4f}")),
        ("tokens/s", "-" if speed.tokens_per_second is None else human_number(speed.tokens_per_second)),
        ("steps/s", number(speed.steps_per_second, "{:.3g}")),
        ("MFU", "-" if speed.mfu_ratio is None else percent(speed.mfu_ratio)),
        ("peak memory", "-" if speed.memory_bytes is None else size(speed.memory_bytes)),
        ("workers", ", ".join(f"{row.world_size}" for row in speed.scaling) or "-"),
        ("attempts", f"{len(report.attempts)}"),
        ("time", "-" if report.wall_seconds is None else human_seconds(report.wall_seconds)),
        ("goodput", "-" if goodput is None else percent(goodput.ratio)),
        ("spent", "-" if cost is None else f"{money(cost.spent)} {cost.currency}"),
    ]
