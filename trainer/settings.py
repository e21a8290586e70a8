"""The base of every part's settings model, and the one way to hash settings and what goes with them.

A part (model, data, checkpoint, ...) defines its own frozen model beside the code that reads it; `trainer.config`
composes them into RunConfig. The docstring under a field is its description in the schema, the chart and the docs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, unknown keys, NaN and infinity refused, docstrings under fields become their descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


def settings_sha256(settings: BaseModel) -> str:
    """Hex sha256 of the settings' canonical JSON: equal for equal settings, whatever the order of keys in the file."""
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def joined_sha256(parts: Sequence[str]) -> str:
    """Hex sha256 of lines: of all that decides a result, such as settings, versions and the state of files."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
