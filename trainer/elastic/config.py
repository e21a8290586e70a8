"""Settings of the launcher; read by `trainer.elastic.launcher`."""

from __future__ import annotations

from pydantic import Field

from trainer.settings import Settings


class ElasticConfig(Settings):
    """How a launcher treats its workers."""

    grace_seconds: float = Field(default=120.0, gt=0)
    """Time a worker has between SIGTERM and SIGKILL: longer than one step and one save, shorter than the pod's
    terminationGracePeriodSeconds."""
