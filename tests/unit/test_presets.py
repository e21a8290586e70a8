"""Presets carry the figures of the runs that they reproduce, and say their true sizes."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import pytest

from trainer.config_file import load_run_config, preset_names
from trainer.model.size import count_parameters
from trainer.settings import settings_sha256


class Figures(NamedTuple):
    """What a reference run prescribes; None where it leaves the choice open."""

    parameters: int
    tokens_per_step: int
    micro_sequences: int
    length: tuple[str, float]
    lr: float
    warmup_steps: int | None
    save_every: tuple[str, float]
    rolling: int | None = None


# A checkpoint carries this hash of its model, and a run goes on from no other. Where a new key changes it, every run
# loses its checkpoints by the upgrade: mark the key `trainer.settings.Added`.
MODEL_SHA256 = {
    "tiny-gpt2": "3e20d86cfc632ea0",
    "tiny-llama": "c9745cd3f766167d",
    "tiny-neox": "2a419501f8847975",
    "gpt2-124m": "25e139df6a6bb305",
    "llama-1.36b": "e554dd1fd719e197",
    "neox-1.4b": "ca4e71579d293c7c",
}

REFERENCE = {
    "gpt2-large": Figures(774_030_080, 24 * 8 * 1024, 24, ("epochs", 100), 3e-4, None, ("every_epochs", 1), 10),
    "gpt2-124m": Figures(124_439_808, 524_288, 32, ("steps", 5 * 19_073), 1e-3, 715, ("every_steps", 250), 10),
    "llama-1.36b": Figures(1_294_159_104, 4 * 8 * 8 * 2048, 8, ("epochs", 1), 3e-4, None, ("every_steps", 500)),
    "gpt2-1.36b": Figures(1_405_338_496, 4 * 8 * 8 * 2048, 8, ("epochs", 1), 3e-4, None, ("every_steps", 500)),
    "gpt-1b-h100": Figures(759_905_280, 512 * 2048, 16, ("steps", 100_000), 3e-4, 2000, ("every_steps", 1000), 5),
    "neox-1.4b-test": Figures(1_414_455_296, 2 * 2 * 1024, 2, ("steps", 1000), 2e-4, 10, ("every_steps", 200)),
    "neox-1.4b": Figures(1_414_455_296, 2 * 4 * 4 * 1024, 4, ("steps", 25_000), 2e-4, 500, ("every_steps", 1250)),
    "neox-1.4b-8gpu": Figures(
        1_414_455_296, 8 * 8 * 4 * 1024, 8, ("steps", 590_625), 3e-4, 11_812, ("every_steps", 20_000)
    ),
}


@pytest.mark.parametrize(("name", "figures"), REFERENCE.items(), ids=list(REFERENCE))
def test_a_reference_run_has_its_figures(name: str, figures: Figures) -> None:
    config = load_run_config(name)
    assert count_parameters(config.model) == figures.parameters
    assert config.batch.sequences * config.sequence_length == figures.tokens_per_step
    assert config.batch.micro_sequences == figures.micro_sequences
    assert getattr(config, figures.length[0]) == figures.length[1]
    assert (config.optimizer.type, config.optimizer.lr) == ("adamw", figures.lr)
    assert config.schedule.type == "cosine"
    assert figures.warmup_steps in (None, config.schedule.warmup_steps)
    assert getattr(config.checkpoint, figures.save_every[0]) == figures.save_every[1]
    assert figures.rolling in (None, config.checkpoint.keep.rolling)
    assert config.precision == "bf16"


def test_the_124m_run_decays_to_a_tenth_and_keeps_every_tier() -> None:
    config = load_run_config("gpt2-124m")
    assert config.schedule.final_ratio == 0.1
    assert config.model.padded_vocab_size == 50_304
    assert (config.checkpoint.keep.best, config.checkpoint.keep.epochs) == (1, True)
    assert config.checkpoint.every_seconds == 60


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_its_true_size(name: str) -> None:
    first_line = (resources.files("trainer") / "presets" / f"{name}.yaml").read_text().split("\n")[0]
    assert f"{count_parameters(load_run_config(name).model):,} parameters" in first_line


@pytest.mark.parametrize("name", [name for name in REFERENCE if name != "neox-1.4b-test"])
def test_no_long_run_can_lose_more_than_half_an_hour(name: str) -> None:
    assert 0 < load_run_config(name).checkpoint.every_seconds <= 1800


@pytest.mark.parametrize(("preset", "sha256"), MODEL_SHA256.items())
def test_checkpoints_of_earlier_releases_are_of_the_same_model(preset: str, sha256: str) -> None:
    assert settings_sha256(load_run_config(preset).model).startswith(sha256)
