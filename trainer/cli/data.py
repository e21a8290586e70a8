"""`gpt-run data`: prepare data sets and look into them. Arguments in, one call, a result out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.cli.fetch import fetch

app = typer.Typer(name="data", help="Prepare data sets and look into them.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

app.command(epilog="Example: gpt-run data fetch https://dumps.example.org/text/ --output data/raw")(fetch)


@app.command(epilog="Example: gpt-run data prepare python-library --output data/python-library")
def prepare(
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="Pipeline file (YAML), or the name of one that comes along.")
    ],
    output: Annotated[Path | None, typer.Option(help="Folder to write instead of the pipeline's own.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a data set that was made from other inputs.")
    ] = False,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local: the cores of this machine; ray: Ray Data, on the cluster that RAY_ADDRESS names."),
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of the engine `local`; default: one per core.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn text into shards of tokens; does nothing where the output is complete and the inputs are unchanged.

    Goes on where an interrupted preparation stopped; waits for another one that writes the same folder.
    """
    from trainer.data.prepare import load_pipeline
    from trainer.data.prepare import prepare as run
    from trainer.data.prepare.engine import Engine, Processes

    loaded = load_pipeline(pipeline)
    chosen: Engine
    if engine == "ray":
        from trainer.ray.stages import RayData

        chosen = RayData()
    else:
        chosen = Processes(workers)
    result = run(loaded, output or Path(loaded.output), replace=replace, engine=chosen)
    splits = {name: split.tokens for name, split in result.info.splits.items()}
    if as_json:
        summary = {"folder": str(result.folder), "skipped": result.skipped, "fingerprint": result.info.fingerprint}
        typer.echo(json.dumps({**summary, "tokens": splits}))
        return
    verb = "is up to date" if result.skipped else "is ready"
    tokens = ", ".join(f"{name} {count:,} tokens" for name, count in splits.items())
    typer.echo(f"{result.folder} {verb}: {tokens}")


@app.command(epilog="Example: gpt-run data inspect data/python-library --verify")
def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Data set: a folder, a token file or a URL.")],
    verify: Annotated[bool, typer.Option("--verify", help="Read every shard and compare its hash.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a data set holds, with a piece of its text where the tokenizer lies beside it."""
    from trainer.data.inspect import inspect_data

    report = inspect_data(path, verify=verify)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
        return
    typer.echo(report.as_text())
