"""`gpt-run preflight`: what does not fit is said before anything is claimed, and nothing is left in the store."""

from __future__ import annotations

import json

from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import Training


def test_all_fits_before_the_first_step_and_in_the_middle(training: Training, warm: Warm) -> None:
    ended = warm.command(training, "preflight", "run.yaml", "--ranks", "2")
    assert ended.code == 0, ended.text
    assert "ok: starts at step 0" in ended.text
    assert list(training.run.iterdir()) == []

    assert warm.worker(training, "steps=4").code == 0
    before = sorted(training.run.rglob("*"))
    ended = warm.command(training, "preflight", "run.yaml", "--json")
    found = json.loads(ended.text)
    assert found["checkpoint"] == f"{training.run}/checkpoints/step-00000004-a0001"
    assert (found["run"], found["steps"]) == ("small", 24)
    assert sorted(training.run.rglob("*")) == before


def test_what_does_not_fit_is_named(make_training: MakeTraining, warm: Warm) -> None:
    training = make_training()
    warm.command(training, "preflight", "run.yaml", "--ranks", "11").refused("11 ranks for batch.sequences 10")
    sets = ["--set", 'data.train="nowhere"']
    warm.command(training, "preflight", "run.yaml", *sets).refused("nowhere does not exist")
    assert warm.worker(training, "steps=4").code == 0
    sets = ["--set", "model.layers=3"]
    warm.command(training, "preflight", "run.yaml", *sets).refused("holds a model with configuration")
    sets = ["--set", "seed=9"]
    warm.command(training, "preflight", "run.yaml", *sets).refused("cannot go on with seed: 1 -> 9")
    # A file where the store's folder should be.
    sets = ["--set", "checkpoint.store=run.yaml"]
    warm.command(training, "preflight", "run.yaml", *sets).refused("run.yaml")
