"""The length of a run, and what every key must have."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trainer.config import RunConfig, total_steps
from trainer.config_file import load_run_config


def test_steps_are_taken_as_they_are() -> None:
    assert total_steps(load_run_config("tiny-gpt2", ["steps=7"]), num_samples=1) == 7


@given(epochs=st.integers(1, 50), samples=st.integers(1, 10_000))
def test_epochs_cover_the_set(epochs: int, samples: int) -> None:
    config = load_run_config("tiny-gpt2", [f"epochs={epochs}"])
    steps = total_steps(config, samples)
    batch = config.batch.sequences
    assert (steps - 1) * batch < epochs * samples <= steps * batch


@given(tokens=st.integers(1, 10**12))
def test_tokens_round_up_to_a_step(tokens: int) -> None:
    config = load_run_config("tiny-gpt2", [f"tokens={tokens}"])
    step_tokens = config.batch.sequences * config.sequence_length
    assert (total_steps(config, 1) - 1) * step_tokens < tokens <= total_steps(config, 1) * step_tokens


def test_every_key_has_a_description() -> None:
    schema = RunConfig.model_json_schema()
    objects: dict[str, Any] = {"RunConfig": schema, **schema["$defs"]}
    missing = [
        f"{name}.{key}"
        for name, definition in objects.items()
        for key, value in definition.get("properties", {}).items()
        if not value.get("description") and key not in ("family",)
    ]
    assert missing == []
