"""`gpt-run preflight`: is everything there that a run needs, before a GPU is taken?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from trainer.cli.train import Overrides, RunFile


def preflight(
    run: RunFile,
    ranks: Annotated[int, typer.Option(min=1, help="Ranks that the run will have at most.")] = 1,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as one JSON object.")] = False,
) -> None:
    """Check a run's settings, data and store without a GPU; claims nothing. Exit 2 says what does not fit.

    Example: gpt-run preflight run.yaml --ranks 16
    """
    from trainer.config_file import load_run_config
    from trainer.train.preflight import preflight as look

    found = look(load_run_config(run, overrides or []), ranks=ranks)
    typer.echo(json.dumps(asdict(found)) if as_json else "\n".join(found.lines()))
