"""The report for a terminal. Called by `gpt-run report`."""

from __future__ import annotations

from rich.console import Console

from trainer.metrics.console import human_number
from trainer.metrics.report.build import RunReport
from trainer.metrics.report.compare import compared
from trainer.metrics.report.model import Report
from trainer.metrics.report.wording import BUCKETS, duration, facts, how_ended, number
from trainer.pages.terminal import facts as show_facts
from trainer.pages.terminal import fit, make_table, say, show, title
from trainer.pages.wording import percent, size, visible

_LISTED_ATTEMPTS = 10
_BAR_COLUMNS = 24


def print_report(run: RunReport, console: Console, other: RunReport | None = None) -> None:
    """Print on `console`, as wide as it is but not wider than reads well."""
    fit(console)
    report = run.report
    say(console, report.url, style="bold")
    show_facts(console, facts(report))
    if other is not None:
        _print_comparison(run, other, console)
    _print_scaling(report, console)
    _print_shares(report, console)
    _print_goodput(report, console)
    if len(report.attempts) > 1:
        _print_attempts(report, console)
    if report.missing or report.warnings:
        title(console, "Not shown, and warnings")
    for text in (*report.missing, *report.warnings):
        say(console, text, indent=2)


def _print_comparison(run: RunReport, other: RunReport, console: Console) -> None:
    title(console, f"Beside {other.report.url}")
    table = make_table("", f">{visible(run.report.name)}", f">{visible(other.report.name)}")
    for row in compared(run, other):
        table.add_row(*row)
    show(console, table)


def _print_scaling(report: Report, console: Console) -> None:
    if not report.performance.scaling:
        return
    title(console, "Speed by number of workers (medians)")
    table = make_table(">workers", ">tokens/s", ">per worker", ">efficiency", ">steps/s", ">MFU", ">memory", ">lines")
    for row in report.performance.scaling:
        table.add_row(
            f"{row.world_size}",
            human_number(row.tokens_per_second),
            human_number(row.tokens_per_second_per_worker),
            percent(row.efficiency),
            number(row.steps_per_second, "{:.3g}"),
            "-" if row.mfu_ratio is None else percent(row.mfu_ratio),
            "-" if row.memory_bytes is None else size(row.memory_bytes),
            f"{row.lines:,}",
        )
    show(console, table)


def _print_shares(report: Report, console: Console) -> None:
    found = report.performance
    if not found.shares:
        return
    title(console, "Parts of a step")
    say(console, ", ".join(f"{part} {percent(share)}" for part, share in found.shares.items()), indent=2)
    if found.slowest_rank is not None and found.slowest_rank_share is not None:
        times = f", which works {found.rank_spread:.2f} times as long as the median one" if found.rank_spread else ""
        often = percent(found.slowest_rank_share)
        say(console, f"slowest rank{times}: rank {found.slowest_rank} in {often} of the lines", indent=2)


def _print_goodput(report: Report, console: Console) -> None:
    if report.goodput is None:
        return
    title(console, "Where the time went")
    table = make_table("bucket", ">time", ">share", "")
    total = sum(report.goodput.seconds.values())
    for bucket in BUCKETS:
        seconds = report.goodput.seconds.get(bucket, 0.0)
        if seconds > 0:
            bar = "█" * max(round(_BAR_COLUMNS * seconds / total), 1)
            table.add_row(bucket, duration(seconds), percent(seconds / total), bar)
    show(console, table)


def _print_attempts(report: Report, console: Console) -> None:
    rows = report.attempts[-_LISTED_ATTEMPTS:]
    newest = f", the newest {len(rows)} of {len(report.attempts):,}" if len(rows) < len(report.attempts) else ""
    title(console, f"Attempts{newest}")
    table = make_table(">", "start (UTC)", ">time", ">idle", ">workers", ">to step", ">again", "end")
    for row in rows:
        table.add_row(
            f"{row.attempt}",
            "-" if row.started_at is None else f"{row.started_at:%m-%d}\N{NO-BREAK SPACE}{row.started_at:%H:%M}",
            duration(row.seconds),
            duration(row.idle_seconds),
            number(row.world_size, "{}"),
            number(row.last_step, "{:,}"),
            f"{row.steps_redone:,}",
            visible(how_ended(row.end)),
        )
    show(console, table)
