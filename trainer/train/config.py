"""Settings of a training step: batch, optimizers, schedules, distillation, guards and log; read by `trainer.train`.

A `type` key picks the variant. A new optimizer or schedule is one class here and one entry in its union.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.model.config import ModelConfig
from trainer.settings import Settings

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]
DecayRate = Annotated[float, Field(ge=0, lt=1)]


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
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.95)
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
    momentum: DecayRate = 0.95
    """Momentum of Muon, with Nesterov's form."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.95)
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


class HiddenConfig(Settings):
    """Hidden states of the student that are to come near those of the teacher, by their mean squared distance."""

    layers: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(min_length=1)
    """Pairs [block of the student, block of the teacher], both counted from 1. Where the widths differ, a learned
    projection of each pair stands in between; it is kept in checkpoints and not exported."""
    weight: PositiveFloat = 1.0
    """Factor of the mean squared distance, averaged over features and pairs, in the loss."""


class DistillConfig(Settings):
    """What a student learns from a teacher besides the next token (Hinton et al., arXiv:1503.02531). The loss is
    (1 - alpha) * cross-entropy + alpha * temperature^2 * KL(teacher || student), both at that temperature."""

    teacher: str = Field(min_length=1)
    """The teacher: a Hugging Face folder, or a checkpoint as `STORE/RUN`, `STORE/RUN@best` or its URL. A run keeps the
    checkpoint that it began with, whatever the reference means later."""
    teacher_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Hash of the teacher's weights and model, as a run's own config.yaml has it; a teacher of another is refused."""
    teacher_model: ModelConfig | None = None
    """Model of the teacher: for a plan before there is one. A run fills it in, and refuses a teacher of another."""
    alpha: Ratio = 0.5
    """Share of the teacher's distribution in the loss; the rest is the next token's."""
    temperature: PositiveFloat = 2.0
    """Divides the logits of both before they are compared; above 1 it shows more of what the teacher finds unlikely."""
    top_k: int | None = Field(default=None, ge=1)
    """Compare with the teacher's so many most likely tokens only; null: with its whole distribution."""
    cache: bool = False
    """Read the teacher's `top_k` logits from where `gpt-run data teach` wrote them, beside the data, instead of having
    the teacher in memory."""
    hidden: HiddenConfig | None = None
    """Compare hidden states, too."""


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
