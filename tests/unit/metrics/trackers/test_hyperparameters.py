"""Settings on one level."""

from __future__ import annotations

from trainer.config_file import load_run_config
from trainer.metrics.trackers.hyperparameters import flatten


def test_settings_of_a_run_become_plain_values() -> None:
    flat = flatten(load_run_config("tiny-gpt2", ["trackers=[{type: wandb, tags: [a, b]}]"]).model_dump(mode="json"))
    assert flat["model.layers"] == 4
    assert flat["optimizer.betas"] == "[0.9, 0.95]"
    assert flat["parallel.compile"] is False
    assert '"tags": ["a", "b"]' in str(flat["trackers"])
    assert "epochs" not in flat
    assert {type(value) for value in flat.values()} <= {bool, int, float, str}
