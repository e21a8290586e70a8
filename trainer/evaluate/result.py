"""What is asked of an evaluation, and what it found: what `--json` prints and eval-NAME.json keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from trainer.evaluate.hellaswag import HellaSwag
from trainer.evaluate.overfit import Comparison
from trainer.evaluate.sampling import Sampling


@dataclass(frozen=True)
class Request:
    """What to evaluate; None and () stand for what the run file says, or for nothing."""

    data: tuple[str, ...] = ()
    """Folders or files of tokens, each a set of its own; () for the validation sets of the run."""
    split: str = "validation"
    sequences: int | None = None
    """Sequences of each set, spread evenly over it; 0 for all."""
    sequence_length: int | None = None
    micro_sequences: int = 8
    """Sequences in one forward pass."""
    hellaswag: str | None = None
    """File of items."""
    hellaswag_items: int = 0
    """The first so many of them; 0 for all."""
    prompts: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    against_training: bool = False
    """Whether to compare the first set with what the run has learned from."""


class SetResult(BaseModel):
    """The loss over one set."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings", use_attribute_docstrings=True)

    validation_loss: float
    """Mean cross-entropy, nats per token."""
    perplexity: float
    """exp(validation_loss)."""
    bits_per_byte: float | None
    """Loss per byte of text, comparable across tokenizers; null where the set does not say how long its text was."""
    standard_error: float | None
    """Of validation_loss as an estimate of the whole set's; null of a single batch."""
    sequences: int
    """Sequences that were read, spread evenly over the set."""
    sequence_length: int
    """Tokens of each."""
    dataset: str
    """Folder or file, as it was named."""


class Sample(BaseModel):
    """A text that the model wrote."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    prompt: str
    """What it was given."""
    text: str
    """What it went on with."""


class Result(BaseModel):
    """What an evaluation found; the keys of its first set stand beside the list of all."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings", use_attribute_docstrings=True)

    model: str
    """URL of the checkpoint, or the model folder."""
    step: int | None
    """Of the checkpoint; null of a model folder."""
    validation_loss: float | None = None
    """Of the first set, as are the keys down to `dataset`; null where none was asked for."""
    perplexity: float | None = None
    """exp(validation_loss)."""
    bits_per_byte: float | None = None
    """Loss per byte of text; null where the set does not say how long its text was."""
    sequences: int | None = None
    """Sequences that were read."""
    sequence_length: int | None = None
    """Tokens of each."""
    dataset: str | None = None
    """Folder or file, as it was named."""
    sets: tuple[SetResult, ...] = ()
    """Every set, in the order in which they were named."""
    hellaswag: HellaSwag | None = None
    """Where items were given."""
    samples: tuple[Sample, ...] = ()
    """One for each prompt."""
    training: Comparison | None = None
    """Where the comparison with training was asked for."""
