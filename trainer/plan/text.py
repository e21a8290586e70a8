"""The plan as tables for people; called by the command."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from trainer.plan.plan import Plan
from trainer.plan.scaling_law import optimal_tokens_range
from trainer.plan.search import Candidate
from trainer.plan.speed import Speed


def print_plan(plan: Plan, console: Console, *, assumed: str = "") -> None:
    """All of it: size, memory, time and money, data and saves, loss, advice, contradictions."""
    config, cluster = plan.config, plan.cluster
    console.print(
        f"{config.name} on {cluster.gpus} x {cluster.accelerator.name} in {cluster.machines} "
        f"machine{'' if cluster.machines == 1 else 's'}{assumed}",
        style="bold",
        highlight=False,
    )
    for title, rows in (
        ("Model", _model(plan)),
        ("Memory per GPU", _memory(plan)),
        ("Speed, time and cost: low, typical, high", _speed(plan)),
        ("Data and checkpoints", _storage(plan)),
        ("Loss", _loss(plan)),
    ):
        console.print(_table(title, rows))
    _print_list(console, "Advice", plan.advice)
    _print_list(console, "Contradictions", [f"{each.name}: {each.message}" for each in plan.contradictions])


def print_candidates(candidates: list[Candidate], console: Console, goal: str) -> None:
    """The search's result, best first."""
    table = Table(title=f"{goal} first", title_justify="left", box=None)
    for column in ("GPUs", "set", "GB", "tokens/s", "hours", "cost"):
        table.add_column(column, no_wrap=column != "set")
    for found in candidates:
        plan = found.plan
        table.add_row(
            f"{plan.cluster.gpus} x {plan.cluster.accelerator.name}",
            " ".join(found.changes),
            f"{plan.memory.total / 1e9:.1f}",
            f"{plan.typical.tokens_per_second:,.0f}",
            _number(plan.hours),
            _number(plan.cost),
        )
    console.print(table)


def _model(plan: Plan) -> list[tuple[str, str]]:
    return [
        ("parameters", f"{plan.parameters:,}"),
        ("FLOP per token, 6N + 12LdT", f"{plan.flops_per_token:.4g}"),
        ("FLOP per token, 6N", f"{plan.parameter_flops_per_token:.4g}"),
        ("FLOP per token, executed", f"{plan.executed_flops_per_token:.4g}"),
    ]


def _memory(plan: Plan) -> list[tuple[str, str]]:
    rows = [(part.replace("_", " "), f"{size / 1e9:7.2f} GB") for part, size in plan.memory.parts.items() if size]
    room = plan.cluster.accelerator.memory_bytes
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    return [
        *rows,
        ("sum", f"{plan.memory.total / 1e9:7.2f} GB of {room / 1e9:.0f}: {verdict} (peak: {plan.memory.moment})"),
    ]


def _speed(plan: Plan) -> list[tuple[str, str]]:
    speeds = (plan.low, plan.typical, plan.high)

    def each(figure: str) -> str:
        return ", ".join(_figure(speed, figure) for speed in speeds)

    currency = plan.config.cost.currency
    goodput = plan.resilience.goodput_ratio
    return [
        ("tokens/s", each("tokens_per_second")),
        ("MFU by 6N + 12LdT", each("mfu_ratio")),
        ("MFU by 6N", each("parameter_mfu_ratio")),
        ("step, s", each("step_seconds")),
        ("steps, tokens", f"{_number(plan.steps)}, {_number(plan.tokens)}"),
        ("hours, failures included", ", ".join(_number(plan.hours_at(speed)) for speed in speeds)),
        ("cost, typical", "no price is known" if plan.cost is None else f"{plan.cost:,.0f} {currency}"),
        ("energy of the GPUs", "unknown" if plan.energy_kwh is None else f"{plan.energy_kwh:,.0f} kWh"),
        ("goodput", f"{goodput:.1%}, a failure every {_hours(plan.resilience.between_failures_seconds)}"),
    ]


def _storage(plan: Plan) -> list[tuple[str, str]]:
    kept = plan.storage
    return [
        (
            "loader per machine",
            f"{kept.loader_tokens_per_second:,.0f} tokens/s, {kept.loader_bytes_per_second / 1e6:.1f} MB/s",
        ),
        ("checkpoint", f"{kept.checkpoint_bytes / 1e9:.2f} GB, written in {kept.checkpoint_seconds:.0f} s"),
        ("training waits for a save", f"{kept.stall_seconds:.2f} s"),
        ("saves every", _hours(plan.resilience.save_interval_seconds)),
        ("best by Young and Daly", _hours(plan.resilience.best_interval_seconds)),
    ]


def _loss(plan: Plan) -> list[tuple[str, str]]:
    fits = plan.assumptions.fits
    least, most = optimal_tokens_range(plan.parameters, fits)
    sources = {fit.name: fit.source for fit in fits}

    def foretold(loss: float | None) -> str:
        return "not made for so small a run" if loss is None else f"{loss:.2f} after the run"

    return [
        ("untrained", f"{plan.untrained_loss:.2f} nats per token"),
        *((name, f"{foretold(loss)} ({sources[name]})") for name, loss in plan.losses.items()),
        ("compute-optimal tokens", f"{least / 1e9:.3g}B" + (f" to {most / 1e9:.3g}B" if most > least else "")),
    ]


def _table(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2))
    table.add_column(min_width=26, no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table


def _print_list(console: Console, title: str, sentences: list[str] | tuple[str, ...]) -> None:
    if sentences:
        console.print(title, style="bold")
        for sentence in sentences:
            console.print(f"  - {sentence}", highlight=False, markup=False)


def _figure(speed: Speed, figure: str) -> str:
    value: float = getattr(speed, figure)
    if figure.endswith("_ratio"):
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _hours(seconds: float) -> str:
    if math.isinf(seconds):
        return "never"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:,.1f} h"
