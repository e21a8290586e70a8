"""Makes the trackers that a run's settings name; called by `trainer.train.setup`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from trainer.checkpoint.store import Store
from trainer.errors import UserError
from trainer.metrics.trackers.base import Tracker
from trainer.metrics.trackers.config import TensorBoardConfig, TrackerConfig
from trainer.metrics.trackers.feed import Trackers
from trainer.metrics.trackers.tensorboard import TensorBoardTracker
from trainer.metrics.trackers.wandb import WandbTracker


def check_trackers(configs: Sequence[TrackerConfig]) -> None:
    """UserError if the package of a tracker is not installed. Imports none: that takes seconds."""
    for config in configs:
        for name in config.packages:
            package = find_spec(name)
            # A folder at hand may be called as a package is; it has no origin.
            if package is None or package.origin is None:
                raise UserError(
                    f"trackers: {name} is not installed",
                    expected=f"the packages of the extra `{config.type}`",
                    fix=f"pip install 'gpt-run[{config.type}]', or take it out of trackers",
                )


def start_trackers(
    configs: Sequence[TrackerConfig], run: Store, attempt_name: str, *, first_step: int, settings: Mapping[str, Any]
) -> Trackers:
    """The trackers of one attempt, at work. `first_step` is the first it takes; `settings` are the run's."""

    def make(config: TrackerConfig) -> Tracker:
        if isinstance(config, TensorBoardConfig):
            return TensorBoardTracker(run, attempt_name, first_step=first_step, settings=settings)
        return WandbTracker(config, run, settings=settings)

    return Trackers([make(config) for config in configs])
