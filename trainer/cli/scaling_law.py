"""`gpt-run scaling-law`: a law of one's own runs. No logic here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Loss by parameters and tokens, fitted to runs.", no_args_is_help=True)


@app.callback()
def scaling_law() -> None:
    """Keeps `fit` a command of its own name."""


@app.command(epilog="Example: gpt-run scaling-law fit runs --flops 1e18 --json > law.json")
def fit(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="<store>/<run>, or a store of runs; URLs too.")],
    parameters: Annotated[str | None, typer.Option(metavar="N", help="Foretell the loss of such a model ...")] = None,
    tokens: Annotated[str | None, typer.Option(metavar="D", help="... after so many tokens.")] = None,
    flops: Annotated[
        str | None, typer.Option(metavar="C", help="Say which model and how many tokens use it best, at 6ND.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=20, help="Fits to runs drawn again, for the intervals.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of those draws.")] = 1,
    name: Annotated[str, typer.Option(help="What `gpt-run plan --law` calls it.")] = "own",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write one HTML page, with plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, which `gpt-run plan --law` reads.")] = False,
) -> None:
    """Fit L(N, D) = E + A / N^alpha + B / D^beta to the last validation losses of finished runs.

    N is all parameters, D training tokens. Runs that are not finished are left out by name. --json prints what
    docs/sweeps.md explains.
    """
    from rich.console import Console

    from trainer.pages.page import check_writable
    from trainer.sweep.law.report import LawRequest, report_law
    from trainer.sweep.law.text import print_law

    if output is not None:
        check_writable(output, "--output")
    request = LawRequest(runs, name, parameters, tokens, flops, bootstrap, seed)
    console = Console(stderr=True)
    with console.status("fitting") as status:
        report = report_law(request, lambda done: status.update(f"drawn again {done} of {bootstrap} times"))
    if output is not None:
        from trainer.sweep.law.page import write_page

        write_page(report, output)
        typer.echo(f"wrote {output}", err=True)
    if as_json:
        typer.echo(report.model_dump_json())
    else:
        print_law(report, Console())
