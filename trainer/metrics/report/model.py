"""The report of `gpt-run report`: plain values, whose names are those of `--json`.

Filled by `trainer.metrics.report.build`; shown by `text` and `html`. What a run's files do not tell is null, and
`missing` says why.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class End(_Part):
    """How an attempt ended, as the next one's claim or its own last event says."""

    reason: str
    """Of the list of reasons, or `finished`."""
    counted: bool
    """Whether it spent a try of the retry budget."""
    message: str


class AttemptRow(_Part):
    """One world of workers."""

    attempt: int
    started_at: datetime | None
    last_sign_at: datetime | None
    """Its last line or commit."""
    seconds: float | None
    """From start to last sign."""
    idle_seconds: float | None
    """From the last sign of the attempt before to this claim."""
    world_size: int | None
    hosts: int | None
    """Different machines."""
    base_checkpoint: str | None
    first_step: int | None
    """Of its lines; likewise the next."""
    last_step: int | None
    steps_redone: int
    """Steps up to its last line that a later attempt did again."""
    tokens_per_second: float | None
    """Median of its lines."""
    checkpoints: int
    """Its commits that are still there."""
    end: End | None
    """Null while it runs, or where nothing says how it ended."""


class Restarts(_Part):
    """Attempts after the first, by what ended the one before."""

    reason: str
    count: int
    counted: int
    """Of them, those that spent a try of the retry budget."""


class Scaling(_Part):
    """Speed at one number of workers; medians over lines, without the first line of an attempt."""

    world_size: int
    lines: int
    steps_per_second: float | None
    tokens_per_second: float
    tokens_per_second_per_worker: float
    efficiency: float
    """tokens_per_second_per_worker / that of the smallest world the run had."""
    mfu_ratio: float | None
    memory_bytes: float | None
    """Largest peak of rank 0."""


class Performance(_Part):
    """Of the whole run."""

    steps_per_second: float | None
    """Median over lines, as the next two."""
    tokens_per_second: float | None
    mfu_ratio: float | None
    memory_bytes: float | None
    """Largest peak of rank 0: allocated on its GPU, or resident on a CPU."""
    shares: dict[str, float]
    """Mean part of a step's time by what it went to; empty where performance.jsonl is missing."""
    slowest_rank: int | None
    """The rank that was slowest most often."""
    slowest_rank_share: float | None
    """How often it was, of the lines that say."""
    rank_spread: float | None
    """Median of (slowest rank's own work / median rank's)."""
    scaling: tuple[Scaling, ...]


class Gpus(_Part):
    """From gpu.jsonl; null where the run had none."""

    count: int
    """Different GPUs that were seen."""
    names: tuple[str, ...]
    utilization_ratio: float | None
    """Mean over GPUs and lines, likewise power."""
    memory_used_bytes: float | None
    """Largest."""
    memory_total_bytes: float | None
    power_watts: float | None
    temperature_celsius: float | None
    """Highest."""


class Hosts(_Part):
    """From performance.jsonl."""

    count: int
    cpu_ratio: float | None
    """Mean."""
    memory_used_ratio: float | None
    """Largest."""
    disk_free_bytes: float | None
    """Smallest."""


class Goodput(_Part):
    """Where the run's time went, up to its last line."""

    ratio: float
    """training / all."""
    seconds: dict[str, float]
    gpu_seconds: dict[str, float]
    """The same times GPUs, or workers where there are none."""
    lost_gpu_seconds: float
    """What faults cost: work done twice, time without workers, starts after the first."""


class Cost(_Part):
    """In `currency`; null without a price."""

    currency: str
    price_per_gpu_hour: float
    spent: float
    lost: float | None
    """To faults."""
    per_billion_tokens: float | None
    estimated: bool
    """True where performance.jsonl is missing: worker hours from claims and lines."""


class CheckpointRow(_Part):
    """A commit that is still there."""

    name: str
    step: int
    attempt: int
    committed_at: datetime
    bytes: int
    duration_seconds: float
    loss: float | None
    validation_loss: float | None


class Checkpoints(_Part):
    """Saves of all attempts."""

    committed: int
    """That are still there; retention took others."""
    saves: int | None
    """Of all time, by events.jsonl."""
    failures: int
    bytes: int
    duration_seconds: float | None
    """Median of those still there."""
    longest_seconds: float | None
    stall_seconds: float | None
    """Time that steps waited for saves, all attempts together, by performance.jsonl."""
    newest: str | None
    newest_at: datetime | None
    rows: tuple[CheckpointRow, ...]


class Report(_Part):
    """A run at a glance."""

    url: str
    name: str
    made_at: datetime
    model: str | None
    """Preset or family, from run.yaml, as are the next two."""
    steps_planned: int | None
    precision: str | None
    started_at: datetime | None
    last_sign_at: datetime | None
    wall_seconds: float | None
    """From the start of the first process (where nothing says it, the first claim) to the last sign, gaps included."""
    step: int | None
    tokens: int | None
    epoch: float | None
    loss: float | None
    """Of the last line."""
    validation_loss: float | None
    """Of the last evaluation."""
    best_validation_loss: float | None
    nonfinite_lines: int
    """Lines whose loss was not a number."""
    end: End | None
    attempts: tuple[AttemptRow, ...]
    restarts: tuple[Restarts, ...]
    performance: Performance
    gpus: Gpus | None
    hosts: Hosts | None
    goodput: Goodput | None
    cost: Cost | None
    checkpoints: Checkpoints
    missing: tuple[str, ...]
    """Parts that cannot be shown, and why."""
    warnings: tuple[str, ...]
    """Files that were damaged, unreadable or cut off."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return self.model_dump(mode="json")
