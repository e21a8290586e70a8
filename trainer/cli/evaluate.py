"""`gpt-run eval`: what a model is worth, once or for each new checkpoint of a run. No logic here."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainer.errors import EXIT_PREEMPTED, UserError

if TYPE_CHECKING:
    from trainer.checkpoint.layout import Checkpoint
    from trainer.evaluate.record import Record
    from trainer.evaluate.result import Request, Result
    from trainer.parallel.config import Precision


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="<store>/<run> for its newest checkpoint; <store>/<run>@best, @step:250 or @NAME; a checkpoint's URL; "
            "or a Hugging Face folder.",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="PATH", help="A set of tokens; may be given several times. Default: the run's."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of --data to read.")] = "validation",
    sequences: Annotated[
        int | None, typer.Option(min=0, help="Sequences of each set, 0 for all. Default: as in training, or 256.")
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens of each. Default: as in training, or the model's context.")
    ] = None,
    micro_sequences: Annotated[int, typer.Option(min=1, help="Sequences in one forward pass.")] = 8,
    against_training: Annotated[
        bool, typer.Option("--against-training", help="Compare with sequences the run has seen: does it over-fit?")
    ] = False,
    hellaswag: Annotated[
        str | None, typer.Option(metavar="FILE", help="HellaSwag's items as JSON lines, a path or URL.")
    ] = None,
    hellaswag_items: Annotated[int, typer.Option(min=0, help="The first so many of them; 0 for all.")] = 0,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", metavar="TEXT", help="Text to go on from; several times.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a sample at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most likely token each time.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from the K most likely tokens only; 0 for all.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 1,
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json; by default the training data's own.")] = None,
    precision: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="Type of the weights.")] = "fp32",
    write: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep the result as eval-NAME.json beside the checkpoint.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Evaluate each new checkpoint of the run MODEL until it is finished.")
    ] = False,
    poll_seconds: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks with --watch.")] = 30.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print {validation_loss, perplexity, bits_per_byte, sequences, ...}.")
    ] = False,
) -> None:
    """Evaluate a model: loss, perplexity and bits per byte over sets, HellaSwag, samples of text.

    Example: gpt-run eval runs/tiny-gpt2@best --data data/python-library --prompt "def main" --json
    """
    # A process that is PID 1 loses signals that it has no handler for. What is written is written whole or not at all.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_PREEMPTED))
    from trainer.evaluate.result import Request
    from trainer.evaluate.sampling import Sampling

    request = Request(
        data=tuple(data or ()),
        split=split,
        sequences=sequences,
        sequence_length=sequence_length,
        micro_sequences=micro_sequences,
        hellaswag=hellaswag,
        hellaswag_items=hellaswag_items,
        prompts=tuple(prompts or ()),
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature, top_k=top_k, seed=seed),
        against_training=against_training,
    )
    if watch:
        _watch(model, request, write, tokenizer, precision, poll_seconds, as_json=as_json)
    else:
        _once(model, request, write, tokenizer, precision, as_json=as_json)


def _once(
    model: str, request: Request, name: str | None, tokenizer: str | None, precision: Precision, *, as_json: bool
) -> None:
    from trainer.evaluate.display import EvaluationDisplay
    from trainer.evaluate.evaluation import evaluate_model
    from trainer.evaluate.pretrained import build_pretrained, load_weights
    from trainer.evaluate.record import require_unwritten, write_record
    from trainer.parallel.precision import COMPUTE_DTYPE

    weights = load_weights(model, tokenizer_file=tokenizer)
    if name is not None and weights.checkpoint is None:
        raise UserError(
            f"--write {name} with the model folder {model}",
            expected="a checkpoint: evaluations are kept beside them",
            fix="leave --write out and keep the output of --json",
        )
    if name is not None and weights.checkpoint is not None:
        require_unwritten(weights.checkpoint, name)
    with EvaluationDisplay() as display:
        pretrained = build_pretrained(weights, dtype=COMPUTE_DTYPE[precision])
        result: Result = evaluate_model(pretrained, request, display)
    if name is not None and weights.checkpoint is not None:
        result = write_record(weights.checkpoint, name, result)
    _print(result, as_json=as_json)


def _watch(
    run: str,
    request: Request,
    name: str | None,
    tokenizer: str | None,
    precision: Precision,
    poll_seconds: float,
    *,
    as_json: bool,
) -> None:
    from trainer.checkpoint.layout import parse_name
    from trainer.checkpoint.store import open_store
    from trainer.evaluate.display import EvaluationDisplay
    from trainer.evaluate.evaluation import evaluate_model
    from trainer.evaluate.pretrained import build_pretrained, checkpoint_weights
    from trainer.evaluate.record import write_record
    from trainer.evaluate.text import one_line
    from trainer.evaluate.watch import watch
    from trainer.parallel.precision import COMPUTE_DTYPE

    store = open_store(run)
    if name is None or "@" in store.name or parse_name(store.name) is not None:
        raise UserError(
            f"--watch of {run}" + (" without --write NAME" if name is None else ""),
            expected="a run, <store>/<run>, and the NAME under which its evaluations are kept",
            fix="write for example: gpt-run eval runs/my-run --watch --write validation",
        )

    def evaluate_one(checkpoint: Checkpoint) -> Record:
        weights = checkpoint_weights(checkpoint, tokenizer_file=tokenizer)
        with EvaluationDisplay() as display:
            pretrained = build_pretrained(weights, dtype=COMPUTE_DTYPE[precision])
            return write_record(checkpoint, name, evaluate_model(pretrained, request, display))

    watch(
        store,
        name,
        evaluate_one,
        tell=lambda record: typer.echo(record.model_dump_json() if as_json else one_line(record)),
        say=lambda line: typer.echo(line, err=as_json),
        wait=lambda: time.sleep(poll_seconds),
    )


def _print(result: Result, *, as_json: bool) -> None:
    from trainer.evaluate.text import lines_of

    if as_json:
        typer.echo(result.model_dump_json())
        return
    for line in lines_of(result):
        typer.echo(line)
