"""The base of every part's settings model, and the one way to hash settings and what goes with them.

A part (model, data, checkpoint, ...) defines its own frozen model beside the code that reads it; `trainer.config`
composes them into RunConfig. The docstring under a field is its description in the schema, the chart and the docs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, unknown keys, NaN and infinity refused, docstrings under fields become their descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Added:
    """Marks a key that came after runs had been made: `context_seed: Annotated[int, Added(as_before=0)] = 0`.

    as_before: the value with which a run does what it did before there was the key. At that value the key is no part of
    what `what_counts` gives, and so of no hash: the settings of an old run keep theirs. It is no other name for the
    default, which a later release may change; so a nested section, which is compared whole, is written out here.
    """

    as_before: Any

    def says_so(self, value: Any) -> bool:
        """Whether a run with this value does what was done before."""
        # True is no 1: `keep.epochs` is an example of a key that takes either, and means something else by each.
        return bool(value == self.as_before) and isinstance(value, bool) == isinstance(self.as_before, bool)


def what_counts(settings: BaseModel) -> dict[str, Any]:
    """The settings as plain JSON data, without keys that came later and say what was done before they came."""
    document = settings.model_dump(mode="json")
    _drop_added(settings, document)
    return document


def settings_sha256(settings: BaseModel) -> str:
    """Hex sha256 of the canonical JSON of what counts of the settings.

    Equal for equal settings, whatever the order of keys in the file, and for those of a run from before a key came.
    """
    text = json.dumps(what_counts(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def joined_sha256(parts: Sequence[str]) -> str:
    """Hex sha256 of lines: of all that decides a result, such as settings, versions and the state of files."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _drop_added(value: Any, document: Any) -> None:
    """Take out of `document`, the plain data of `value`, what `Added` keys at any depth say as before."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            below = getattr(value, name)
            if any(isinstance(mark, Added) and mark.says_so(below) for mark in field.metadata):
                del document[name]
            else:
                _drop_added(below, document[name])
    elif isinstance(value, dict):
        for below, plain in zip(value.values(), document.values(), strict=True):
            _drop_added(below, plain)
    elif isinstance(value, list | tuple):
        for below, plain in zip(value, document, strict=True):
            _drop_added(below, plain)
