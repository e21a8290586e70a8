"""Loading run files: presets, overrides, nulls, complaints."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import RunConfig
from trainer.config_file import (
    changed_keys,
    load_run_config,
    preset_names,
    run_config_yaml,
    validate_run,
)
from trainer.errors import UserError
from trainer.overrides import apply_override, split_overrides
from trainer.yaml_dialect import parse_yaml

MINIMAL = "name: a\nsteps: 3\nsequence_length: 8\nmodel: {family: gpt2}\ndata: {train: x}\n"


def load(tmp_path: Path, text: str, *overrides: str) -> RunConfig:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    return load_run_config(str(file), overrides)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    config = load_run_config(name)
    assert load(tmp_path, run_config_yaml(config)) == config


def test_the_reference_runs_are_there() -> None:
    expected = {
        "gpt2-large", "gpt2-124m", "llama-1.36b", "gpt2-1.36b", "gpt-1b-h100",
        "neox-1.4b-test", "neox-1.4b", "neox-1.4b-8gpu", "tiny-gpt2", "tiny-llama", "tiny-neox",
    }  # fmt: skip
    assert expected <= set(preset_names())


def test_numbers_are_numbers(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + "optimizer: {type: adamw, lr: 1e-4}\n").optimizer.lr == 1e-4
    assert load(tmp_path, MINIMAL, "optimizer.type=adamw", "optimizer.lr=2e-5").optimizer.lr == 2e-5


def test_null_means_the_default(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + "seed: null\nbatch: {sequences: null}\n", "resume=null")
    assert config == load(tmp_path, MINIMAL)


def test_environment_applies_before_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTRUN_SET", "seed=5,optimizer={type: adamw, betas: [0.8,0.9]}")
    config = load(tmp_path, MINIMAL, "seed=6")
    assert config.seed == 6
    assert config.optimizer.type == "adamw"
    assert config.optimizer.betas == (0.8, 0.9)


def test_an_end_replaces_the_others() -> None:
    assert load_run_config("gpt2-large", ["steps=10"]).epochs is None


def test_a_new_type_starts_the_section_afresh() -> None:
    config = load_run_config("tiny-gpt2", ["schedule.type=wsd", "schedule.decay_ratio=0.5"])
    assert config.schedule.type == "wsd"


def test_a_preset_replaces_the_fields_that_were_there() -> None:
    assert load_run_config("tiny-gpt2", ["model.preset=gpt2-124m"]).model == load_run_config("gpt2-124m").model
    changed = load_run_config("tiny-gpt2", ["model.preset=gpt2-124m", "model.layers=2"])
    assert (changed.model.layers, changed.model.width) == (2, 768)


def test_an_override_of_the_environment_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTRUN_SET", "steps.a=1")
    with pytest.raises(UserError, match=r"GPTRUN_SET steps\.a=1: `steps` is 300"):
        load_run_config("tiny-gpt2")


def test_a_file_is_laid_over_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small.yaml"
    small.write_text("steps: 7\nmodel: {layers: 2, width: 160}\noptimizer: {type: muon, momentum: 0.9}\n")
    config = load_run_config("gpt2-large", [f"@{small}", "model.width=80"])
    assert (config.steps, config.epochs) == (7, None)
    assert (config.model.layers, config.model.width, config.model.heads) == (2, 80, 20)
    assert config.optimizer.type == "muon"
    monkeypatch.setenv("GPTRUN_SET", f"@{small},seed=3")
    assert load_run_config("gpt2-large").model.layers == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "nosuch.yaml: no such file"),
        ("", "empty"),
        ("- 1\n", "a list, not a mapping"),
        ("modle: {}\n", "did you mean `model`"),
    ],
)
def test_a_file_that_cannot_be_laid_over_says_why(tmp_path: Path, content: str | None, complaint: str) -> None:
    path = tmp_path / ("nosuch.yaml" if content is None else "small.yaml")
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=complaint):
        load_run_config("tiny-gpt2", [f"@{path}"])


def test_list_items_are_named_by_number() -> None:
    raw = {"data": {"train": [{"path": "a"}, {"path": "b"}]}}
    apply_override(raw, "data.train.1.path=c")
    assert raw["data"]["train"][1]["path"] == "c"
    for number in ("2", "²"):
        with pytest.raises(UserError, match=f"no item `{number}`"):
            apply_override(raw, f"data.train.{number}.path=c")


def test_model_of_a_preset_with_changes(tmp_path: Path) -> None:
    text = MINIMAL.replace("{family: gpt2}", "{preset: gpt2-124m, layers: 2}")
    config = load(tmp_path, text)
    assert (config.model.layers, config.model.width) == (2, 768)


def test_all_complaints_come_together(tmp_path: Path) -> None:
    text = MINIMAL + "optimiser: {}\nbatch: {sequnces: 3}\nprecision: fp31\n"
    with pytest.raises(UserError) as error:
        load(tmp_path, text, "model.heads=7")
    message = str(error.value)
    assert "5 problems" not in message
    assert "4 problems" in message
    assert "optimiser: unknown key; did you mean `optimizer`?" in message
    assert "batch.sequnces: unknown key; did you mean `sequences`?" in message
    assert "precision: found 'fp31'" in message
    assert "model: width 768 is not divisible by heads 7" in message


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["sequence_length=4096"], "sequence_length: 4096 is longer than model.context 256"),
        (["batch.micro_sequences=99"], "batch.micro_sequences: 99 is more than batch.sequences 16"),
        (["parallel.hybrid_ranks=2"], "parallel.hybrid_ranks: only read when parallel.shard is hybrid"),
        (["evaluate.every_steps=0", "evaluate.early_stopping.patience=2"], "needs evaluate.every_steps"),
        (["task=evaluate", "resume=none"], "task evaluate needs a checkpoint"),
        (["steps=null"], "steps, epochs, tokens: found none of them"),
        (["model.width=-3"], "tiny-gpt2: 1 problem"),
        (["optimizer={lr: 1e-3}"], "optimizer: needs the key 'type'"),
        (["model.preset=gpt2-125m"], "did you mean `gpt2-124m`?"),
        (["name=Not_A_Label"], "name: found 'Not_A_Label'"),
    ],
)
def test_rules_across_parts(overrides: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=r"\A") as error:
        load_run_config("tiny-gpt2", overrides)
    assert complaint in str(error.value)


def test_two_ends_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found `steps` and `tokens`"):
        load(tmp_path, MINIMAL + "tokens: 5\n")


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean `tiny-gpt2`"):
        load_run_config("tiny-gtp2")


def test_bad_yaml_names_the_line() -> None:
    with pytest.raises(UserError, match=r"run.yaml:2:1: found duplicate key"):
        parse_yaml("a: 1\na: 2\n", source="run.yaml")


def test_file_that_is_not_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a mapping"):
        load(tmp_path, "- a\n")


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.yaml: empty"):
        load(tmp_path, "")


@pytest.mark.parametrize("override", ["epochs=.inf", "optimizer.lr=.inf", "elastic.grace_seconds=.nan"])
def test_nothing_is_infinite(override: str) -> None:
    with pytest.raises(UserError, match="expected a finite number"):
        load_run_config("tiny-gpt2", [override])


def test_overrides_split_outside_brackets() -> None:
    assert split_overrides("a=[1,2],b={c: 1, d: 2},e=3") == ["a=[1,2]", "b={c: 1, d: 2}", "e=3"]


def test_difference_of_two_configs() -> None:
    a, b = load_run_config("tiny-gpt2"), load_run_config("tiny-gpt2", ["seed=2"])
    assert changed_keys(a, b) == {"seed": (1, 2)}


def test_validation_names_the_source() -> None:
    with pytest.raises(UserError, match=r"values.yaml: \d problems"):
        validate_run({"name": "a"}, source="values.yaml")
