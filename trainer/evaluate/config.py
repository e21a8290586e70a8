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


class EvaluateConfig(Settings):
    """Validation loss, perplexity and bits per byte during training."""

    every_steps: int = Field(default=0, ge=0)
    """Steps between two evaluations, and one at the end; 0 switches evaluation off."""
    sequences: int = Field(default=256, ge=0)
    """Validation sequences to use, spread evenly over the set; 0 uses all of them."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    """When to end the run before its last step."""
