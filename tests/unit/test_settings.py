"""Hashes of settings: an old run keeps its own, whatever keys later releases add."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest

from trainer.config import RunConfig
from trainer.config_file import load_run_config
from trainer.model.config import GPT2Config
from trainer.settings import Added, Settings, settings_sha256, what_counts

# Keys that are in every run's hash, at their defaults too: those of the first release.
HASHED_KEYS = Path(__file__).with_name("hashed_keys.txt")


class Window(Settings):
    """A section that came later, and has got a key since."""

    tokens: int = 0
    sink_tokens: Annotated[int, Added(as_before=0)] = 0


class LaterModel(GPT2Config):
    """The model of a later release."""

    qk_norm: Annotated[bool, Added(as_before=False)] = False
    window: Annotated[Window, Added(as_before=Window(tokens=0, sink_tokens=0))] = Window()
    ends: Annotated[bool | int, Added(as_before=True)] = True
    # A default may change: it is not what was done before.
    rope_scale: Annotated[float, Added(as_before=1.0)] = 2.0


class LaterRun(RunConfig):
    """The run of a later release."""

    model: LaterModel


def test_a_new_key_that_says_what_was_done_before_leaves_the_hash() -> None:
    was = GPT2Config(layers=2)
    assert settings_sha256(LaterModel(layers=2, rope_scale=1.0)) == settings_sha256(was)
    assert settings_sha256(LaterModel(layers=3, rope_scale=1.0)) != settings_sha256(was)


@pytest.mark.parametrize(
    "changed",
    [{"qk_norm": True}, {"window": {"tokens": 4}}, {"window": {"sink_tokens": 4}}, {"ends": 1}, {"rope_scale": 2.0}],
)
def test_a_new_key_that_says_otherwise_counts(changed: dict[str, Any]) -> None:
    now = LaterModel.model_validate({"layers": 2, "rope_scale": 1.0, **changed})
    assert settings_sha256(now) != settings_sha256(GPT2Config(layers=2))


def test_a_key_that_came_after_its_section_leaves_the_sections_hash() -> None:
    with_window = LaterModel(window=Window(tokens=4))
    assert what_counts(with_window)["window"] == {"tokens": 4}
    assert what_counts(LaterModel(window=Window(tokens=4, sink_tokens=1)))["window"] == {"tokens": 4, "sink_tokens": 1}
    assert with_window.model_dump()["window"] == {"tokens": 4, "sink_tokens": 0}


def test_a_run_of_the_release_before_keeps_its_hash() -> None:
    was = load_run_config("tiny-gpt2")
    document = json.loads(was.model_dump_json())
    document["model"] |= {"rope_scale": 1.0}
    assert settings_sha256(LaterRun.model_validate(document)) == settings_sha256(was)


def test_keys_in_lists_are_looked_at_too() -> None:
    class Windows(Settings):
        windows: tuple[Window, ...]
        by_name: dict[str, Window]

    found = what_counts(Windows(windows=(Window(tokens=1),), by_name={"a": Window(tokens=2)}))
    assert found == {"windows": [{"tokens": 1}], "by_name": {"a": {"tokens": 2}}}


def test_every_key_that_came_since_the_first_release_says_what_was_done_before() -> None:
    """A key that is not on the list, and not marked `Added`, changes the hash of every run: its claims and checkpoints
    would be those of other settings. A key that is taken off the list does so as well."""
    found = sorted(set(_hashed_keys(RunConfig)))
    assert found == HASHED_KEYS.read_text().split()


def _hashed_keys(settings: type[Settings]) -> Iterator[str]:
    for name, field in settings.model_fields.items():
        if any(isinstance(mark, Added) for mark in field.metadata):
            continue
        yield f"{settings.__name__}.{name}"
        for below in _settings_in(field.annotation):
            yield from _hashed_keys(below)


def _settings_in(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for part in get_args(annotation):
        yield from _settings_in(part)
