"""`gpt-run tokenizer`: train tokenizers, check them, take over existing ones. Arguments in, one call, a result out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainer.cli.train import Overrides
from trainer.errors import EXIT_USER_ERROR

if TYPE_CHECKING:
    from trainer.data.tokenizers.pipeline import Made

app = typer.Typer(
    name="tokenizer", help="Train tokenizers, check them, take over those that exist.", no_args_is_help=True
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Output = Annotated[Path, typer.Option(help="Folder to write: tokenizer.json and its Hugging Face configuration.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a tokenizer that was made from other inputs.")]


@app.command(
    epilog="Example: gpt-run tokenizer train python-library --style gpt2 --vocab-size 4096 --output tokenizers/py"
)
def train(
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="Pipeline file (YAML), or the name of one that comes along.")
    ],
    output: Output,
    style: Annotated[
        Literal["byte-level", "gpt2", "llama"] | None,
        typer.Option(help="Instead of the pipeline's: gpt2 has 50,257 ids unless told otherwise, llama 32,000."),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help="Ids, special tokens included, instead of the pipeline's.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read and clean; by default one per core.")
    ] = None,
    replace: Replace = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train a BPE tokenizer on a sample of a pipeline's text, on all cores.

    Does nothing where the output is complete and the inputs are unchanged. The same text, settings and seed give the
    same tokenizer on any number of cores.
    """
    from trainer.data.prepare.engine import Processes
    from trainer.data.prepare.pipeline import load_text_pipeline
    from trainer.data.tokenizers.pipeline import train as run

    loaded, engine = load_text_pipeline(pipeline, overrides or []), Processes(workers)
    made = run(loaded, output, style=style, vocab_size=vocab_size, replace=replace, engine=engine)
    _print_made(made, as_json)


@app.command(epilog="Example: gpt-run tokenizer verify tokenizers/py --vocab-size 4096 --text README.md")
def verify(
    tokenizer: Annotated[str, typer.Argument(metavar="TOKENIZER", help="Folder or tokenizer.json: a path or a URL.")],
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="File of UTF-8 text to check on; may be repeated. By default text of this Python installation."
        ),
    ] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Ids that it should have.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a tokenizer on text: round trip, size, special tokens, fertility, and how transformers loads it.

    Exits with 2 where something is wrong, and says what.
    """
    from trainer.data.tokenizers.verify import read_texts, verify_tokenizer

    report = verify_tokenizer(tokenizer, read_texts(text or []), vocab_size=vocab_size)
    typer.echo(json.dumps(report.as_dict()) if as_json else report.as_text())
    if report.problems:
        raise typer.Exit(EXIT_USER_ERROR)


@app.command("import", epilog="Example: gpt-run tokenizer import hf://openai-community/gpt2 --output tokenizers/gpt2")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="tokenizer.json or its folder, a rank file of tiktoken (.tiktoken), or hf://NAME[@REVISION].",
        ),
    ],
    output: Output,
    pattern: Annotated[
        Literal["gpt2", "cl100k", "o200k"] | None,
        typer.Option(help="How text is split into words, for a rank file whose name does not tell."),
    ] = None,
    special: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKEN=ID", help="Special token of a rank file instead of its usual ones; may be repeated."
        ),
    ] = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Take over a tokenizer that exists: the same ids, in a folder that everything loads."""
    from trainer.data.tokenizers.config import existing_tokenizer
    from trainer.data.tokenizers.pipeline import import_tokenizer

    settings = existing_tokenizer(source, pattern, special or [])
    _print_made(import_tokenizer(settings, output, replace=replace), as_json)


def _print_made(made: Made, as_json: bool) -> None:
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "folder": str(made.folder),
                    "skipped": made.skipped,
                    "fingerprint": made.info.fingerprint,
                    "vocab_size": made.info.vocab_size,
                    "eos_id": made.info.eos_id,
                }
            )
        )
        return
    verb = "is up to date" if made.skipped else "is ready"
    typer.echo(f"{made.folder} {verb}: {made.info.vocab_size:,} ids, fingerprint {made.info.fingerprint[:12]}")
