"""Settings of validation during training; read by the train loop and `trainer.evaluate`."""

from __future__ import annotations

from pydantic import Field

from trainer.settings import Settings


class EarlyStoppingConfig(Settings):
    """End the run when validation loss no longer improves."""

    patience: int = Field(default=0, ge=0)
    """Evaluations without improvement before the run ends; 0 switches early stopping off."""
    min_delta: float = Field(default=0.0, ge=0)
    """Smallest fall of the validation loss, in nats per token, that counts as an improvement."""


class SamplesConfig(Settings):
    """Texts that the model writes during training, kept in samples.jsonl and shown by trackers."""

    every_steps: int = Field(default=0, ge=0)
    """Steps between two times, and one at the end; 0 switches samples off."""
    prompts: tuple[str, ...] = Field(default=("Once upon a time",), min_length=1, max_length=16)
    """Texts to go on from, one sample each; an empty one stands for the start of a document."""
    max_tokens: int = Field(default=64, ge=1, le=1024)
    """Length of a sample, tokens; each costs a forward pass over all prompts on every rank."""
    temperature: float = Field(default=0.8, ge=0)
    """Divides the logits; 0 takes the most likely token each time."""
    top_k: int = Field(default=50, ge=0)
    """Draw from the K most likely tokens only; 0 for all."""
    tokenizer: str | None = None
    """tokenizer.json, a path or URL; null means the one beside the training data."""


class EvaluateConfig(Settings):
    """Validation loss, perplexity and bits per byte during training; samples of text."""

    every_steps: int = Field(default=0, ge=0)
    """Steps between two evaluations, and one at the end; 0 switches evaluation off."""
    sequences: int = Field(default=256, ge=0)
    """Validation sequences to use, spread evenly over the set; 0 uses all of them."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    """When to end the run before its last step."""
    samples: SamplesConfig = SamplesConfig()
    """Texts that the model writes."""
