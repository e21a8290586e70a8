"""`gpt-run checkpoints export`: a model that other programs can load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    url: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="<store>/<run>, its @best, or a checkpoint's URL.")],
    output: Annotated[Path, typer.Option(help="Folder to create.")],
    export_format: Annotated[Literal["hf"], typer.Option("--format", help="hf: safetensors for Transformers.")] = "hf",
    dtype: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="Type of the weights.")] = "fp32",
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json; by default the training data's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print {checkpoint, output, format}.")] = False,
) -> None:
    """Export a checkpoint as a Hugging Face folder: weights, config and tokenizer.

    Example: gpt-run checkpoints export runs/tiny-gpt2@best --format hf --output exports/tiny-gpt2
    """
    from trainer.evaluate.export import export_checkpoint

    source = export_checkpoint(url, output, dtype=dtype, tokenizer_file=tokenizer)
    if as_json:
        typer.echo(json.dumps({"checkpoint": source, "output": str(output), "format": export_format}))
    else:
        typer.echo(f"exported {source} to {output}")
