"""`gpt-run config`: the effective config, its schema, and what differs between two."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from trainer.cli.train import Overrides, RunFile

app = typer.Typer(help="Look at run files.", no_args_is_help=True)


@app.command()
def show(
    run: RunFile,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False,
) -> None:
    """Print the effective config with every default.

    Example: gpt-run config show gpt2-124m --set optimizer.lr=6e-4
    """
    from trainer.config_file import load_run_config, run_config_yaml

    config = load_run_config(run, overrides or [])
    typer.echo(config.model_dump_json(indent=2) if as_json else run_config_yaml(config), nl=as_json)


@app.command()
def schema() -> None:
    """Print the JSON schema of run files, with every key's description, unit and default.

    Example: gpt-run config schema > run.schema.json
    """
    from trainer.config import RunConfig

    typer.echo(json.dumps(RunConfig.model_json_schema(), indent=2))


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="A run file or preset.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="A run file or preset.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print {key: [a, b]}.")] = False,
) -> None:
    """Print the keys whose effective values differ; exits 1 if there are any, like diff.

    Example: gpt-run config diff neox-1.4b neox-1.4b-8gpu
    """
    from trainer.config_file import changed_keys, load_run_config

    changes = changed_keys(load_run_config(first), load_run_config(second))
    if as_json:
        typer.echo(json.dumps({key: list(values) for key, values in changes.items()}, indent=2))
    else:
        for key, (a, b) in changes.items():
            typer.echo(f"{key}: {json.dumps(a)} -> {json.dumps(b)}")
    raise typer.Exit(1 if changes else 0)
