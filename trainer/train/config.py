"""Settings of a training step: batch, optimizers, schedules, guards and log; read by `trainer.train`.

A `type` key picks the variant. A new optimizer or schedule is one class here and one entry in its union.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.settings import Settings

NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]


class BatchConfig(Settings):
    """The global batch is fixed in sequences; any number of ranks up to `sequences` works."""

    sequences: int = Field(default=32, ge=1)
    """Sequences in one optimizer step, over all ranks."""
    micro_sequences: int = Field(default=8, ge=1)
    """Sequences in one forward and backward pass of one rank; the rest of a rank's share is accumulated."""


class AdamWConfig(Settings):
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101); weight decay on matrices only."""

    type: Literal["adamw"] = "adamw"
    """Picks this optimizer."""
    lr: PositiveFloat = 3e-4
    """Peak learning rate; the schedule multiplies it."""
    betas: tuple[Ratio, Ratio] = (0.9, 0.95)
    """Decay rates of the two moments."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled decay per step, times the learning rate."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest global gradient norm; 0 switches clipping off."""


class MuonConfig(Settings):
    """Muon (Jordan et al., 2024) for the matrices inside blocks; AdamW for embeddings, head, norms and biases."""

    type: Literal["muon"] = "muon"
    """Picks this optimizer."""
    lr: PositiveFloat = 3e-4
    """Peak learning rate of both parts: Muon's update is scaled to AdamW's root mean square (arXiv:2502.16982)."""
    momentum: Ratio = 0.95
    """Momentum of Muon, with Nesterov's form."""
    betas: tuple[Ratio, Ratio] = (0.9, 0.95)
    """Decay rates of AdamW's moments."""
    eps: PositiveFloat = 1e-8
    """Added to AdamW's denominator."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled decay per step, times the learning rate, on matrices."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest global gradient norm; 0 switches clipping off."""


OptimizerConfig = Annotated[AdamWConfig | MuonConfig, Field(discriminator="type")]


class CosineConfig(Settings):
    """Linear warm-up, then half a cosine down to `final_ratio` at the last step."""

    type: Literal["cosine"] = "cosine"
    """Picks this schedule."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear growth from zero."""
    final_ratio: Ratio = 0.1
    """Learning rate at the last step, as a share of the peak."""


class LinearConfig(Settings):
    """Linear warm-up, then a straight line down to `final_ratio` at the last step."""

    type: Literal["linear"] = "linear"
    """Picks this schedule."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear growth from zero."""
    final_ratio: Ratio = 0.0
    """Learning rate at the last step, as a share of the peak."""


class WarmupStableDecayConfig(Settings):
    """Linear warm-up, a constant peak, then a straight line down over the last `decay_ratio` of the run."""

    type: Literal["wsd"] = "wsd"
    """Picks this schedule."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear growth from zero."""
    decay_ratio: Ratio = 0.2
    """Share of all steps that the final decay takes."""
    final_ratio: Ratio = 0.0
    """Learning rate at the last step, as a share of the peak."""


ScheduleConfig = Annotated[CosineConfig | LinearConfig | WarmupStableDecayConfig, Field(discriminator="type")]


class GuardConfig(Settings):
    """When a run that has gone wrong stops by itself."""

    nonfinite_steps: int = Field(default=5, ge=1)
    """Consecutive steps with a loss or gradient norm that is NaN or infinite (each is skipped) before the run stops."""


class LogConfig(Settings):
    """How often a run speaks."""

    every_steps: int = Field(default=10, ge=1)
    """Steps between two log lines; also the lines of training.jsonl."""
    profile_seconds: float = Field(default=60.0, ge=0)
    """Seconds between two steps that are profiled for the shares of their parts and the slowest rank; 0 for none."""
    histograms_every_steps: int = Field(default=0, ge=0)
    """Steps between two histograms of parameters and gradients, in histograms.jsonl and trackers; 0: none."""
