"""Settings of what a run tells beside its losses; parts of RunConfig."""

from __future__ import annotations

from pydantic import Field

from trainer.settings import Settings


class CostConfig(Settings):
    """What the run is charged with, for the cost in status, metrics and reports."""

    price_per_gpu_hour: float | None = Field(default=None, ge=0)
    """Price of one GPU for an hour (of one worker, where there is no GPU); null leaves cost out."""
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    """Its currency, as in ISO 4217."""
