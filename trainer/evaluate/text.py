"""An evaluation in words, for people; called by `gpt-run eval` where no JSON is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.evaluate.overfit import Comparison
from trainer.evaluate.result import Result, SetResult

_VERDICTS = {
    "tracks": "validation tracks training",
    "over-fit": "over-fit: the model knows what it was trained on better than it should",
    "easier": "the held-out text is easier than what was trained on: it says nothing of over-fitting",
}


def lines_of(result: Result) -> Iterator[str]:
    """Lines to print."""
    yield result.model
    for each in result.sets:
        yield f"  {each.dataset}: {_figures(each)}"
    if result.training is not None:
        yield f"  {_comparison(result.training)}"
    if result.hellaswag is not None:
        found = result.hellaswag
        cut = f", {found.shortened} of them shortened to the context" if found.shortened else ""
        yield f"  HellaSwag: acc {found.acc:.4f}, acc_norm {found.acc_norm:.4f} ({found.items} items{cut})"
    for sample in result.samples:
        yield f"  {sample.prompt}{sample.text}"


def one_line(result: Result) -> str:
    """The first set's figures and HellaSwag's, for a watcher's log."""
    parts = [_figures(result.sets[0])] if result.sets else []
    if result.hellaswag is not None:
        parts.append(f"HellaSwag acc_norm {result.hellaswag.acc_norm:.4f}")
    return f"{result.model}: {', '.join(parts) or f'{len(result.samples)} samples'}"


def _figures(each: SetResult) -> str:
    error = f" +- {each.standard_error:.4f}" if each.standard_error is not None else ""
    bits = f", {each.bits_per_byte:.4f} bits per byte" if each.bits_per_byte is not None else ""
    return (
        f"loss {each.validation_loss:.4f}{error}, perplexity {each.perplexity:.2f}{bits} "
        f"({each.sequences} sequences of {each.sequence_length} tokens)"
    )


def _comparison(found: Comparison) -> str:
    error = f" +- {found.gap_standard_error:.4f}" if found.gap_standard_error is not None else ""
    return (
        f"training loss {found.training_loss:.4f} on {found.training_sequences} sequences that the run has seen, "
        f"gap {found.gap:+.4f}{error}: {_VERDICTS[found.verdict]}"
    )
