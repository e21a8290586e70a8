"""Settings of the launcher; read by `trainer.elastic.launcher`."""

from __future__ import annotations

from pydantic import Field

from trainer.settings import Settings


class BudgetConfig(Settings):
    """How many failures a run survives. Preemptions, scaling and lost nodes do not count."""

    failures: int = Field(default=3, ge=0)
    """Failures within the window after which the run is tried again; one more ends it."""
    window_seconds: float = Field(default=3600.0, gt=0)
    """Length of the window, seconds."""


class ElasticConfig(Settings):
    """How launchers treat their workers."""

    hang_seconds: float = Field(default=600.0, gt=0)
    """A worker that makes no progress for so long is ended and tried again, its stacks in the store's logs. Longer than
    the longest step, restore, compilation, evaluation of one batch and wait for a save."""
    grace_seconds: float = Field(default=120.0, gt=0)
    """Time a worker has between SIGTERM and SIGKILL: longer than one step and one save, shorter than the pod's
    terminationGracePeriodSeconds."""
    budget: BudgetConfig = BudgetConfig()
    """When to stop trying."""
