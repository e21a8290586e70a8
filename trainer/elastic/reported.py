"""What rank 0 tells of its training: the fields of a beat's `status`, each of the type that /status and /metrics need.

Whoever reaches the coordinator's port can send a beat, so nothing else gets through to the two pages.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from trainer.elastic.messages import Count
from trainer.metrics.catalogue import STEP_SECONDS

# A page shows so many labels of a kind at most; real ones are below ten.
_MOST_LABELS = 64
_MOST_PLACES = 4096


def _is_time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def _or_null(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


AttemptName = Annotated[str, Field(pattern=r"^a\d{4,9}$")]
Time = Annotated[str, Field(max_length=64), AfterValidator(_is_time)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Figure = Annotated[float | None, AfterValidator(_or_null)]
"""Null where it is not a number, which JSON has no word for."""
Seconds = Annotated[dict[str, Number], Field(max_length=_MOST_LABELS)]
Figures = Annotated[dict[str, Figure], Field(max_length=_MOST_LABELS)]


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class NewestCheckpoint(_Fields):
    """The newest committed one."""

    name: str
    step: Count
    time: Time
    url: str


class Cost(_Fields):
    """In `currency`."""

    spent: Figure
    remaining: Figure
    lost: Figure
    per_billion_tokens: Figure
    currency: str


class Totals(_Fields):
    """Of one attempt since its begin."""

    attempt: AttemptName
    tokens: Count
    steps: Count
    flops: Number
    nonfinite_steps: Count
    checkpoint_stall_seconds: Number
    checkpoint_failures: Count
    step_durations: Annotated[
        tuple[Count, ...], Field(min_length=len(STEP_SECONDS) + 1, max_length=len(STEP_SECONDS) + 1)
    ]
    step_durations_sum: Number


class Gpu(_Fields):
    """A GPU and what was measured of it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str | Figure]

    node: str
    gpu: Count


class Host(_Fields):
    """A machine and what was measured of it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str | Figure]

    host: str


class Reported(_Fields):
    """What changed since the last beat; fields that were not given are left out of `fields`."""

    phase: str | None = None
    attempt: AttemptName | None = None
    step: Count | None = None
    steps_total: Count | None = None
    tokens: Count | None = None
    loss: Figure = None
    validation_loss: Figure = None
    lr: Figure = None
    grad_norm: Figure = None
    tokens_per_second: Figure = None
    mfu_ratio: Figure = None
    last_progress_time: Time | None = None
    eta_time: Time | None = None
    checkpoint_bytes: Count | None = None
    checkpoint_duration_seconds: Figure = None
    checkpoint_interval_seconds: Figure = None
    last_checkpoint: NewestCheckpoint | None = None
    slowest_rank: Count | None = None
    goodput_ratio: Figure = None
    cost: Cost | None = None
    shares: Figures = {}
    rank_step_seconds: Figures = {}
    memory: Figures = {}
    goodput_seconds: Seconds = {}
    settled_seconds: Seconds = {}
    settled_gpu_seconds: Seconds = {}
    totals: Totals | None = None
    info: dict[str, Any] = {}
    gpus: Annotated[list[Gpu], Field(max_length=_MOST_PLACES)] = []
    hosts: Annotated[list[Host], Field(max_length=_MOST_PLACES)] = []

    @property
    def fields(self) -> dict[str, Any]:
        """Those that were given, as plain values."""
        return self.model_dump(exclude_unset=True)
