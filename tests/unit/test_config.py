"""The length of a run, and what every key must have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from trainer.config import RunConfig, total_steps
from trainer.config_file import load_run_config, preset_names, read_run_file
from trainer.errors import UserError


def test_steps_are_taken_as_they_are() -> None:
    assert total_steps(load_run_config("tiny-gpt2", ["steps=7"]), num_samples=1) == 7


@given(hundredths=st.integers(1, 5000), samples=st.integers(1, 10_000))
@example(hundredths=110, samples=100 * load_run_config("tiny-gpt2").batch.sequences)
def test_epochs_cover_the_set_and_no_step_more(hundredths: int, samples: int) -> None:
    config = load_run_config("tiny-gpt2", [f"epochs={hundredths / 100}"])
    steps = total_steps(config, samples)
    batch = config.batch.sequences
    assert (steps - 1) * batch * 100 < hundredths * samples <= steps * batch * 100


@given(tokens=st.integers(1, 10**12))
def test_tokens_round_up_to_a_step(tokens: int) -> None:
    config = load_run_config("tiny-gpt2", [f"tokens={tokens}"])
    step_tokens = config.batch.sequences * config.sequence_length
    assert (total_steps(config, 1) - 1) * step_tokens < tokens <= total_steps(config, 1) * step_tokens


@pytest.mark.parametrize("name", preset_names())
def test_the_schema_accepts_what_is_shipped(name: str) -> None:
    schema = Draft202012Validator(RunConfig.model_json_schema())
    schema.validate(read_run_file(name))
    schema.validate(load_run_config(name).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({"model": {"preset": "gpt2-124m", "layers": 2}}, True),
        ({"data": {"train": [{"path": "a", "weight": 3}, "b"]}}, True),
        ({"optimizer": {"type": "muon", "momentum": 0.9}}, True),
        ({"model": {"layers": 2}}, False),
        ({"optimizer": {"type": "adamw", "momentum": 0.9}}, False),
        ({"stepz": 3}, False),
    ],
)
def test_the_schema_agrees_with_the_loader(change: dict[str, Any], valid: bool) -> None:
    schema = Draft202012Validator(RunConfig.model_json_schema())
    assert schema.is_valid({**read_run_file("tiny-gpt2"), **change}) == valid


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


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("checkpoint.store", "s3://user:hidden@bucket/runs"),  # pragma: allowlist secret
        ("resume", "https://account.example/runs?sig=hidden"),
        ("data.train", "gs://user:hidden@bucket/set"),  # pragma: allowlist secret
        ("data.train", "https://hidden@host/set"),
        ("data.train", "simplecache::https://host/set?sig=hidden"),
        ("data.validation", "s3://user:hidden@bucket/set"),  # pragma: allowlist secret
        ("initial_weights", "s3://user:hidden@bucket/runs/a@best"),  # pragma: allowlist secret
        ("evaluate.samples.tokenizer", "https://host/tokenizer.json?token=hidden"),
        ("checkpoint.local", "s3://user:hidden@bucket/x"),  # pragma: allowlist secret
        ("data.cache.path", "s3://user:hidden@bucket/x"),  # pragma: allowlist secret
    ],
)
def test_urls_with_secrets_are_refused_and_not_shown(key: str, url: str) -> None:
    with pytest.raises(UserError, match=f"{key}.*environment") as caught:
        load_run_config("tiny-gpt2", [f"{key}={url}"])
    assert "hidden" not in str(caught.value)


def test_a_prompt_may_hold_an_address() -> None:
    config = load_run_config("tiny-gpt2", ["evaluate.samples.prompts=[see https://host/?q=1 for]"])
    assert config.evaluate.samples.prompts == ("see https://host/?q=1 for",)


def test_a_container_of_an_azure_account_is_no_secret() -> None:
    store = "abfs://container@account.dfs.core.windows.net/runs"
    assert load_run_config("tiny-gpt2", [f"checkpoint.store={store}"]).checkpoint.store == store


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["trackers=[{type: wandb}, {type: tensorboard}, {type: wandb}]"], "trackers: wandb is named twice"),
        (
            ["trackers=[{type: wandb, mode: offline}]", "checkpoint.store=s3://bucket/runs"],
            "trackers.0.folder: offline files would be lost with the machine",
        ),
        (["trackers=[{type: mlflow}]"], "trackers"),
    ],
)
def test_trackers_that_cannot_be_meant_are_refused(overrides: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        load_run_config("tiny-gpt2", overrides)


def test_trackers_are_picked_by_type() -> None:
    config = load_run_config("tiny-gpt2", ["trackers=[{type: tensorboard}, {type: wandb, mode: offline}]"])
    assert [tracker.type for tracker in config.trackers] == ["tensorboard", "wandb"]
    assert load_run_config("tiny-gpt2", ["trackers=null"]).trackers == ()


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["task=finetune"], "initial_weights: task finetune goes on from a trained model"),
        (["task=sft"], "initial_weights: task sft goes on from a trained model"),
        (["task=sft", "initial_weights=runs/base", "data.document_mask=true"], "data.document_mask: task sft"),
        (["task=tune"], "task: "),
    ],
)
def test_a_task_without_what_it_needs_is_refused(overrides: list[str], key: str) -> None:
    with pytest.raises(UserError, match=key):
        load_run_config("tiny-gpt2", overrides)


@pytest.mark.parametrize("task", ["finetune", "sft"])
def test_a_task_that_adapts_takes_a_checkpoint(task: str) -> None:
    config = load_run_config("tiny-gpt2", [f"task={task}", "initial_weights=runs/base@best"])
    assert (config.task, config.initial_weights) == (task, "runs/base@best")
