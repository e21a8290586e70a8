"""`gpt-run serve`: an endpoint in OpenAI's form, for trying a model. No logic here."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from trainer.cli.generate import ModelArgument


def serve(
    model: ModelArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; :: for all, of IPv4 too. There is no authentication.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    name: Annotated[str | None, typer.Option(help="The model's name for clients. Default: MODEL.")] = None,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait for their turn; others get a 429.")] = 8,
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json; by default the training data's own.")] = None,
) -> None:
    """Serve a model for trying it: /v1/completions, /v1/chat/completions, /v1/models, /healthz. Not for production.

    One request is computed at a time. Ctrl+C and SIGTERM end it.

    Example: gpt-run serve runs/tiny-gpt2 --port 8000
    """
    from trainer.errors import UserError
    from trainer.extras import needs

    with needs("data", "gpt-run serve"):
        from trainer.evaluate.serve.app import bind
        from trainer.evaluate.serve.app import serve as serve_http
    from trainer.evaluate.serve.model import load_served

    listener = bind(host, port)
    served = load_served(model, name=name, tokenizer_file=tokenizer)
    if isinstance(served.template, UserError):
        typer.echo(f"no chat: {served.template.found}")
    asyncio.run(serve_http(served, listener, waiting=queue, say=typer.echo))
