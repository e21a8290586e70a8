"""`gpt-run tensorboard`: the curves of a run."""

from __future__ import annotations

from typing import Annotated

import typer


def tensorboard(
    run: Annotated[str, typer.Argument(metavar="RUN", help="<store>/<run>: a folder or a URL.")],
    host: Annotated[str, typer.Option(help="Address to listen on; :: for all, of IPv4 too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 6006,
    every_seconds: Annotated[float, typer.Option(min=1, help="How often to look for new lines.")] = 15.0,
) -> None:
    """Show a run in TensorBoard, also one that is under way and whose store is a bucket.

    Attempts make one curve. Ends with SIGTERM or Ctrl+C.

    Example: gpt-run tensorboard s3://bucket/runs/gpt2-124m
    """
    from trainer.metrics.board import serve

    serve(run, host=host, port=port, every_seconds=every_seconds)
