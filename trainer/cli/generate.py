"""`gpt-run generate`: text from a checkpoint. No logic here."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="<store>/<run> for its newest checkpoint; <store>/<run>@best, @step:250 or @NAME; a checkpoint's URL; "
        "or a Hugging Face folder.",
    ),
]


def generate(
    model: ModelArgument,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", metavar="TEXT", help="Text to go on from; several times.")
    ] = None,
    prompt_files: Annotated[
        list[str] | None,
        typer.Option("--prompt-file", metavar="FILE", help="One from a file, - for standard input; several times."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens to make at most. Default: 100, or what the model's context leaves.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token each time.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw from the K most likely tokens only; 0 for all.")] = 50,
    top_p: Annotated[
        float, typer.Option(help="Draw from the fewest tokens only whose probabilities sum up to P; 1 for all.")
    ] = 1.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: make tokens less likely that were there before.")
    ] = 1.0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before this text; several times.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 1,
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json; by default the training data's own.")] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print {prompt, text, finish_reason, prompt_tokens, completion_tokens, model}, a line per prompt.",
        ),
    ] = False,
) -> None:
    """Generate text.

    Example: gpt-run generate runs/tiny-gpt2 --prompt "def main" --prompt "class " --max-tokens 60 --top-p 0.9
    """
    from trainer.evaluate.generate import complete, encode_prompt, in_order
    from trainer.evaluate.generate import generate as generate_pieces
    from trainer.evaluate.pretrained import load_pretrained
    from trainer.evaluate.prompts import read_prompts
    from trainer.evaluate.sampling import Sampling

    # Wrong words are told before the model is loaded.
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        stop=tuple(stop or ()),
        seed=seed,
    )
    texts = read_prompts(prompts or [], prompt_files or [])
    pretrained = load_pretrained(model, tokenizer_file=tokenizer)
    if as_json:
        for completion in complete(pretrained, texts, sampling):
            typer.echo(json.dumps(asdict(completion) | {"model": pretrained.url}))
        return
    encoded = [encode_prompt(pretrained, text, max_tokens) for text in texts]
    begun = -1
    for piece in in_order(generate_pieces(pretrained, encoded, sampling)):
        if piece.row > begun:
            begun = piece.row
            typer.echo(("---\n" if begun else "") + texts[begun], nl=False)
        typer.echo(piece.text, nl=piece.finish is not None)
