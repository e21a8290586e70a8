"""`gpt-run report`: what a run did, from its own files. No logic here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="<store>/<run>: a folder or a URL.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the report as one HTML page, with plots.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Another run to show beside it, by tokens.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a run did: loss, speed and scaling, where the time went, attempts, checkpoints, hardware, cost.

    All of it comes from the run's own files, on any store, while it runs or afterwards. What an attempt did behind the
    checkpoint from which a later one went on is no part of the curves. What the files do not tell is named.

    --json prints what docs/report.md explains; null is what is not known. With --compare it prints {run, other}.

    Example: gpt-run report s3://bucket/runs/gpt2-124m --output gpt2-124m.html
    """
    from rich.console import Console

    from trainer.metrics.report import report_run
    from trainer.metrics.report.html import write_page
    from trainer.metrics.report.text import print_report
    from trainer.pages.page import check_writable

    if output is not None:
        check_writable(output, "--output")
    found = report_run(run)
    other = report_run(compare) if compare is not None else None
    if output is not None:
        write_page(found, output, other)
        typer.echo(f"wrote {output}", err=True)
    if as_json:
        document = found.report.as_dict()
        typer.echo(json.dumps(document if other is None else {"run": document, "other": other.report.as_dict()}))
        return
    print_report(found, Console(), other)
