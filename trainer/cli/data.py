"""`gpt-run data`: prepare data sets and look into them. Arguments in, one call, a result out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.cli.fetch import fetch
from trainer.cli.train import Overrides, RunFile

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
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Turn text into shards of tokens; does nothing where the output is complete and the inputs are unchanged.

    Goes on where an interrupted preparation stopped; waits for another one that writes the same folder.
    """
    from trainer.data.prepare import load_pipeline
    from trainer.data.prepare import prepare as run
    from trainer.data.prepare.engine import Engine, Processes

    loaded = load_pipeline(pipeline, overrides or [])
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


@app.command(epilog="Example: gpt-run data teach tiny-distill --set distill.top_k=32")
def teach(run: RunFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Write a teacher's largest logits beside the training data of a run, for `distill.cache`.

    Takes distill.top_k times 4 bytes a token (6 where the vocabulary is beyond 65,536), and goes on where it was
    stopped. --json prints {teacher, folders, bytes}.
    """
    from trainer.config_file import load_run_config
    from trainer.train.teach import teach as write

    taught = write(load_run_config(run, overrides or []))
    if as_json:
        folders = [str(folder) for folder in taught.folders]
        typer.echo(json.dumps({"teacher": taught.teacher, "folders": folders, "bytes": taught.bytes}))
        return
    for folder in taught.folders:
        typer.echo(f"{folder} holds what {taught.teacher} says")


@app.command(epilog="Example: gpt-run data inspect data/python-library --html report.html")
def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Data set: a folder, a token file or a URL.")],
    split: Annotated[str | None, typer.Option(help="Look at this split only.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read all tokens; by default a sample of the shards, which takes seconds.")
    ] = False,
    samples: Annotated[int, typer.Option(min=0, max=100, help="Documents of each split to show.")] = 3,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENIZER",
            help="Folder or tokenizer.json (path or URL) of raw token files, or of a set that has none beside it.",
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every shard and compare its hash first.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the report as one HTML page, with plots.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a data set holds: totals, what filters dropped, lengths, vocabulary use, repeats and samples.

    Totals and filters come from dataset.json; the rest is counted from tokens. Raw files (.bin, .npy, .npz) do not say
    where documents end and what ids stand for; with a tokenizer they do. Remote shards stream through the shard cache.

    --json prints path, name, created_at, sources, fingerprint, tokenizer, filters [{name, seen, dropped, share}],
    verified_shards, and splits [{name, tokens, documents, shards, token_bytes, text_bytes, bytes_per_token, read,
    lengths, vocabulary, repeats, also_in_train, samples}]; null is what is not known. docs/data-inspect.md
    explains them.
    """
    from rich.console import Console

    from trainer.data.inspect import inspect_data
    from trainer.data.inspect.html import check_writable, write_page
    from trainer.data.inspect.text import print_report

    if html is not None:
        check_writable(html)
    report = inspect_data(path, split=split, full=full, samples=samples, tokenizer=tokenizer, verify=verify)
    if html is not None:
        write_page(report, html)
        typer.echo(f"wrote {html}", err=True)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
        return
    print_report(report, Console())
