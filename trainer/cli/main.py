"""The command `gpt-run` and its sub-commands. Heavy imports happen inside commands: `--help` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer.cli import (
    checkpoints,
    config,
    data,
    evaluate,
    export,
    generate,
    job,
    plan,
    preflight,
    ray,
    report,
    scaling_law,
    serve,
    sweep,
    tensorboard,
    tokenizer,
    train,
)
from trainer.storage_errors import tell_retries
from trainer.version import VERSION

app = typer.Typer(
    name="gpt-run",
    help="Pretrain GPT-style models on nodes that come and go, and lose nothing when they do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
checkpoints.app.command("export")(export.export)
app.command("train")(train.train)
app.command("plan")(plan.plan)
app.command("preflight")(preflight.preflight)
app.command("worker")(train.worker)
app.command("coordinator")(train.coordinator)
app.command("ray")(ray.ray)
app.command("eval")(evaluate.evaluate)
app.command("generate")(generate.generate)
app.command("serve")(serve.serve)
app.command("tensorboard")(tensorboard.tensorboard)
app.command("report")(report.report)
app.command("status")(job.status)
app.command("sweep")(sweep.sweep)
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(job.app, name="job")
app.add_typer(scaling_law.app, name="scaling-law")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Options of the program itself."""
    if show:
        typer.echo(VERSION)
        raise typer.Exit
    tell_retries()
