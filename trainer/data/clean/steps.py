"""The steps of a pipeline by their `type`, and how they are applied together. Called by `trainer.data.prepare`.

A new step is one class, one name in `AnyStep`, and what it does with a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from trainer.data.clean.base import Drop, Step
from trainer.data.clean.c4 import C4
from trainer.data.clean.decontaminate import Decontaminate
from trainer.data.clean.gopher import GopherQuality, GopherRepetition
from trainer.data.clean.language import Language
from trainer.data.clean.normalise import Normalise
from trainer.settings import joined_sha256, settings_sha256

AnyStep = Annotated[
    Normalise | Language | GopherQuality | GopherRepetition | C4 | Decontaminate, Field(discriminator="type")
]


def clean(text: str, steps: Sequence[Step]) -> str | Drop:
    """The text after all steps, or the verdict of the first that drops it."""
    for step in steps:
        verdict = step.apply(text)
        if isinstance(verdict, Drop):
            return verdict
        text = verdict
    return text


def steps_sha256(steps: Sequence[Step]) -> str:
    """Hex sha256 of all that decides what steps do: their settings, models and other files."""
    return joined_sha256([f"{settings_sha256(step)} {step.method()}" for step in steps])
