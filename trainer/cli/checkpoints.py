"""`gpt-run checkpoints`: look at checkpoints, check, copy, pin and prune them, on any store. No logic here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trainer.checkpoint.manage import CheckpointRow

app = typer.Typer(
    help="Look at checkpoints, verify, copy, pin and prune them, on a disk or any fsspec URL.",
    no_args_is_help=True,
)

RunUrl = Annotated[str, typer.Argument(metavar="RUN", help="A run: <store>/<run>, a folder or a URL.")]
CheckpointUrl = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="<store>/<run> for its newest; <store>/<run>@best, @step:250 or @NAME; or <store>/<run>/checkpoints/NAME.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", epilog="Example: gpt-run checkpoints list s3://bucket/runs/gpt2-124m")
def list_(run: RunUrl, as_json: AsJson = False) -> None:
    """List a run's committed checkpoints, oldest first, with the tiers that keep them."""
    from trainer.checkpoint.manage import list_checkpoints, open_run_url

    rows = list_checkpoints(open_run_url(run))
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=2))
    else:
        _print_table(rows)


@app.command(epilog="Example: gpt-run checkpoints show runs/tiny-gpt2@best")
def show(checkpoint: CheckpointUrl, as_json: AsJson = False) -> None:
    """Show one checkpoint: where it stands, its hashes, tiers, evaluations and files."""
    from trainer.checkpoint.manage import show_checkpoint
    from trainer.checkpoint.references import resolve_url

    shown = show_checkpoint(resolve_url(checkpoint))
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    files = shown.pop("files")
    for key, value in shown.items():
        typer.echo(f"{key:20} {json.dumps(value) if isinstance(value, dict | list) else value}")
    for name, entry in files.items():
        typer.echo(f"  {entry['sha256'][:12]} {entry['bytes']:>14,} {name}")


@app.command(epilog="Example: gpt-run checkpoints verify s3://bucket/runs/gpt2-124m")
def verify(
    checkpoint: CheckpointUrl,
    streams: Annotated[int, typer.Option(min=1, help="Files to read at a time.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Read every file back and compare its size and sha256 with the marker; exits 1 if one differs."""
    from trainer.checkpoint.manage import verify_checkpoint
    from trainer.checkpoint.references import resolve_url
    from trainer.data.progress import progress

    found = resolve_url(checkpoint)
    with progress("verify", found.committed.bytes) as advance:
        result = verify_checkpoint(found, streams=streams, progress=advance)
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
    else:
        for problem in result.problems:
            typer.echo(f"{result.name}: {problem}")
        verdict = "sound" if result.sound else f"{len(result.problems)} of {result.files} files are not as committed"
        typer.echo(f"{result.url}: {verdict} ({result.files} files, {result.bytes:,} bytes)")
    raise typer.Exit(0 if result.sound else 1)


@app.command(epilog="Example: gpt-run checkpoints pull s3://bucket/runs/gpt2-124m@best --output checkpoints")
def pull(
    checkpoint: CheckpointUrl,
    output: Annotated[Path, typer.Option(help="Folder in which the checkpoint's folder is made.")] = Path(),
    streams: Annotated[int, typer.Option(min=1, help="Files to fetch at a time.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Copy a checkpoint to this machine, verified. An interrupted pull goes on where it stopped."""
    from trainer.checkpoint.manage import pull_checkpoint
    from trainer.checkpoint.references import resolve_url
    from trainer.data.progress import progress

    found = resolve_url(checkpoint)
    with progress("pull", found.committed.bytes) as advance:
        target = pull_checkpoint(found, output, streams=streams, progress=advance)
    typer.echo(json.dumps({"name": found.name, "url": found.url, "folder": str(target)}) if as_json else str(target))


@app.command(epilog="Example: gpt-run checkpoints pin runs/tiny-gpt2@step:250 --note 'before the new data'")
def pin(
    checkpoint: CheckpointUrl,
    note: Annotated[str, typer.Option(help="Why it is kept; written into the pin.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the pin away instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a checkpoint whatever retention says."""
    from trainer.checkpoint.manage import pin_checkpoint, unpin_checkpoint
    from trainer.checkpoint.references import resolve_url

    found = resolve_url(checkpoint)
    changed = unpin_checkpoint(found) if remove else pin_checkpoint(found, note=note)
    if as_json:
        typer.echo(json.dumps({"name": found.name, "url": found.url, "pinned": not remove, "changed": changed}))
    else:
        state = "not pinned" if remove else "pinned"
        typer.echo(f"{found.url}: {state}{'' if changed else ' (as before)'}")


@app.command(epilog="Example: gpt-run checkpoints prune runs/tiny-gpt2 --rolling 1 --dry-run")
def prune(
    run: RunUrl,
    rolling: Annotated[int | None, typer.Option(min=1, help="Newest to keep; by default as in run.yaml.")] = None,
    best: Annotated[int | None, typer.Option(min=0, help="Best by validation loss to keep.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the checkpoints that no tier holds, and what torn saves of older attempts left."""
    from trainer.checkpoint.manage import keep_of, open_run_url, prune

    store = open_run_url(run)
    given = {name: value for name, value in (("rolling", rolling), ("best", best)) if value is not None}
    result = prune(store, keep_of(store).model_copy(update=given), dry_run=dry_run)
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
        return
    for name in (*result.deleted, *result.torn):
        typer.echo(f"{'would delete' if dry_run else 'deleted'} {name}{' (torn)' if name in result.torn else ''}")
    count = len(result.deleted) + len(result.torn)
    typer.echo(f"{count} checkpoints, {result.bytes:,} bytes{' would be freed' if dry_run else ' freed'}")


def _print_table(rows: list[CheckpointRow]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = ("name", "step", "loss", "validation", "bytes", "committed (UTC)", "tiers")
    cells = [
        (
            row.name,
            str(row.step),
            f"{row.loss:.4f}",
            "-" if row.validation_loss is None else f"{row.validation_loss:.4f}",
            f"{row.bytes:,}",
            f"{row.committed_at:%Y-%m-%d %H:%M:%S}",
            ", ".join(row.tiers) or "none",
        )
        for row in rows
    ]
    console = Console()
    if not console.is_terminal:
        for line in (columns, *cells):
            typer.echo("\t".join(line))
        return
    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column == "name")
    for line in cells:
        table.add_row(*line)
    console.print(table)
