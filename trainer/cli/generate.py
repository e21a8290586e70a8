"""`gpt-run generate`: text from a checkpoint."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def generate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="<store>/<run>, a checkpoint's URL, or a model folder.")
    ],
    prompt: Annotated[str, typer.Option(help="Text to go on from.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 100,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most likely token each time.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from the K most likely tokens only; 0 for all.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 1,
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json; by default the training data's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print {prompt, text, model}.")] = False,
) -> None:
    """Generate text.

    Example: gpt-run generate runs/tiny-gpt2 --prompt "def main" --max-tokens 60
    """
    from trainer.evaluate.generate import Sampling, generate_text
    from trainer.evaluate.pretrained import load_pretrained

    pretrained = load_pretrained(model, tokenizer_file=tokenizer)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_k=top_k, seed=seed)
    pieces = generate_text(pretrained, prompt, sampling)
    if as_json:
        text = "".join(pieces)
        typer.echo(json.dumps({"prompt": prompt, "text": text, "model": pretrained.url}))
        return
    typer.echo(prompt, nl=False)
    for piece in pieces:
        typer.echo(piece, nl=False)
    typer.echo()
