"""Steps together: order, names of rules, and the hash that tells one cleaning from another."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.data.clean.base import Drop, Step
from trainer.data.clean.steps import AnyStep, clean, steps_sha256


def steps(*raw: dict[str, Any]) -> tuple[Step, ...]:
    return TypeAdapter(tuple[AnyStep, ...]).validate_python(raw)


def test_steps_are_applied_in_order() -> None:
    text = "\n".join(f"This is a sentence with number {number} in it.\r" for number in range(6))
    cleaned = clean(text, steps({"type": "normalise"}, {"type": "c4", "min_sentences": 6}))
    assert cleaned == text.replace("\r", "")
    assert clean("", ()) == ""


def test_the_first_that_drops_is_named() -> None:
    pipeline = steps({"type": "normalise"}, {"type": "gopher-quality"}, {"type": "c4"})
    assert clean("too short", pipeline) == Drop("gopher-quality.min-words")
    assert clean(" ", pipeline) == Drop("normalise.empty")


def test_names_of_rules_are_unique() -> None:
    kinds: list[dict[str, Any]] = [
        {"type": "normalise"},
        {"type": "language", "keep": ["en"]},
        {"type": "gopher-quality"},
        {"type": "gopher-repetition"},
        {"type": "c4"},
        {"type": "decontaminate", "evaluations": ["a"]},
    ]
    names = [name for step in steps(*kinds) for name in step.rules()]
    assert len(set(names)) == len(names)
    assert all(name.split(".")[0] in [kind["type"] for kind in kinds] for name in names)


def test_the_hash_follows_settings_and_order() -> None:
    first, other = steps({"type": "normalise"}, {"type": "c4"})
    changed = steps({"type": "c4", "min_sentences": 3})[0]
    hashes = {steps_sha256(pipeline) for pipeline in [(), (first,), (first, other), (other, first), (first, changed)]}
    assert len(hashes) == 5
    assert steps_sha256((first, other)) == steps_sha256(steps({"type": "normalise"}, {"type": "c4"}))


@pytest.mark.parametrize(
    "raw", [{"type": "gopher"}, {"type": "c4", "min_sentence": 5}, {"type": "gopher-quality", "max_hash_ratio": -1}]
)
def test_unknown_steps_and_settings_are_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        steps(raw)
