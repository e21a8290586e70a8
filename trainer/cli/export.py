"""`gpt-run checkpoints export`: a model that other programs can load. No logic here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    url: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="<store>/<run>, its @best, or a checkpoint's URL.")],
    output: Annotated[Path | None, typer.Option(help="Folder to create.", show_default=False)] = None,
    export_format: Annotated[
        Literal["hf", "onnx"], typer.Option("--format", help="hf: safetensors for Transformers; onnx: a graph.")
    ] = "hf",
    upload: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Folder in a store (s3://, gs://, abfs://, a path), or hf://OWNER/NAME."),
    ] = None,
    dtype: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="Type of the weights.")] = "fp32",
    max_shard_bytes: Annotated[
        int, typer.Option(min=1, help="Begin another file of weights beyond so many bytes.")
    ] = 5_000_000_000,
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json; by default the training data's own.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of an older export.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print {checkpoint, format, output, uploaded, bytes, largest_difference}.")
    ] = False,
) -> None:
    """Export a checkpoint: weights, config, tokenizer and model card for other programs.

    Example: gpt-run checkpoints export runs/tiny-gpt2@best --output exports/tiny --dtype bf16
    """
    from trainer.evaluate.export import ExportRequest, run_export

    request = ExportRequest(
        checkpoint=url,
        output=output,
        upload=upload,
        kind=export_format,
        dtype=dtype,
        tokenizer_file=tokenizer,
        max_shard_bytes=max_shard_bytes,
        replace=replace,
    )
    done = run_export(request)
    if as_json:
        result = {
            "checkpoint": done.checkpoint,
            "format": export_format,
            "output": None if output is None else str(output),
            "uploaded": done.uploaded,
            "bytes": done.exported.bytes,
            "largest_difference": done.exported.largest_difference,
        }
        typer.echo(json.dumps(result))
        return
    for place in (output, done.uploaded):
        if place is not None:
            typer.echo(f"exported {done.checkpoint} to {place}")
    if done.exported.largest_difference is not None:
        typer.echo(f"largest difference of a logit from the decoder's: {done.exported.largest_difference:.1e}")
