"""The settings of a run as trackers show them: one level, plain values.

Called by the trackers and by `trainer.metrics.tensorboard`; pure. A run's settings hold no secrets, which RunConfig
sees to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """`{"model": {"layers": 2}}` as `{"model.layers": 2}`; lists as JSON, nulls left out."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            flat[prefix + key] = value
        elif value is not None:
            flat[prefix + key] = json.dumps(value)
    return flat
