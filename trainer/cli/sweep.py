"""`gpt-run sweep`: several runs that differ in a few keys, and their losses beside each other. No logic here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli.job import Context, Namespace
from trainer.cli.train import Overrides, RunFile, parse_workers

if TYPE_CHECKING:
    from trainer.sweep.points import Sweep
    from trainer.sweep.run import Outcome


def sweep(
    run: RunFile,
    over: Annotated[
        list[str] | None,
        typer.Option("--over", metavar="KEY=VALUES", help="Values of a key: 1e-3,2e-3 or 1e-4..1e-2:5 (logarithmic)."),
    ] = None,
    overrides: Overrides = None,
    random: Annotated[
        int | None, typer.Option("--random", metavar="N", min=1, help="Draw N combinations; LOW..HIGH is a range.")
    ] = None,
    seed: Annotated[int, typer.Option("--random-seed", help="Of the draws: the same one draws the same.")] = 1,
    limit: Annotated[int, typer.Option(min=1, help="Refuse more runs than this.")] = 64,
    parallel: Annotated[int, typer.Option(min=1, help="Runs at a time on this machine.")] = 1,
    nproc: Annotated[str, typer.Option(metavar="N", help="Workers of each run; auto: one per GPU, or one.")] = "1",
    halving: Annotated[
        int | None,
        typer.Option(metavar="ETA", min=2, help="Go on with the best of ETA runs only, at 1/ETA of the steps, ..."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Start nothing: show what there is.")] = False,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Run files and logs; default: sweeps/NAME.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the result as one HTML page.")] = None,
    on_cluster: Annotated[
        bool, typer.Option("--cluster", help="Submit each run as `gpt-run job submit` does.")
    ] = False,
    values: Annotated[
        list[str] | None, typer.Option("--values", "-f", metavar="FILE", help="Values of the chart, with --cluster.")
    ] = None,
    chart: Annotated[str, typer.Option("--chart", metavar="CHART", help="A folder, or oci://...")] = "charts/gpt-run",
    max_running: Annotated[int, typer.Option(min=1, help="Jobs at a time, with --cluster.")] = 4,
    namespace: Namespace = None,
    context: Context = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train one run for each combination of values, and compare their validation losses.

    Each is a run of its own in the store, NAME-xxxxxx. The same command goes on: what is finished stays, what failed is
    tried again. Ctrl+C saves all that run and stops (exit 75). --json prints what docs/sweeps.md explains.

    Example: gpt-run sweep tiny-gpt2 --over optimizer.lr=1e-3,2e-3,4e-3 --over batch.sequences=8,16 --set tokens=1e6
    """
    from rich.console import Console

    from trainer.pages.page import check_writable
    from trainer.sweep.points import Request, make_sweep
    from trainer.sweep.run import refuse_mixed
    from trainer.sweep.text import print_result

    refuse_mixed(on_cluster=on_cluster, halving=halving, values=values or [])
    made = make_sweep(Request(run, over or [], overrides or [], random, seed, limit))
    if output is not None:
        check_writable(output, "--output")
    folder = folder or Path("sweeps") / made.name
    if show:
        from trainer.sweep.run import show as show_only

        outcome = show_only(made)
    elif on_cluster:
        outcome = _on_cluster(made, folder, chart, values or [], max_running, namespace, context)
    else:
        outcome = _here(made, folder, parallel, parse_workers(nproc), halving)
    if output is not None:
        from trainer.sweep.page import write_page

        write_page(outcome.result, output)
        typer.echo(f"wrote {output}", err=True)
    if as_json:
        typer.echo(outcome.result.model_dump_json())
    else:
        print_result(outcome.result, Console())
    sys.exit(outcome.exit_code)


def _here(made: Sweep, folder: Path, parallel: int, nproc: int, halving: int | None) -> Outcome:
    from trainer.elastic.signals import StopSignals

    signals = StopSignals(quits=False)
    from trainer.sweep.run import LocalOptions, run_here

    return run_here(made, LocalOptions(folder, parallel, nproc, halving), signals, _say)


def _on_cluster(
    made: Sweep,
    folder: Path,
    chart: str,
    values: list[str],
    max_running: int,
    namespace: str | None,
    context: str | None,
) -> Outcome:
    from trainer.cli.job import LONG_SECONDS, connect

    cluster = connect(context, namespace, LONG_SECONDS)
    from trainer.elastic.signals import StopSignals
    from trainer.sweep.cluster import ClusterJobs, ClusterOptions, run_on_cluster

    signals = StopSignals(quits=False)
    options = ClusterOptions(folder, chart, tuple(values), max_running)
    return run_on_cluster(made, options, ClusterJobs(cluster), signals, _say)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
