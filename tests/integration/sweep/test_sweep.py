"""`gpt-run sweep` and `gpt-run scaling-law fit` with real runs: stopped, gone on with, failed, refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.training import Training

OVER = ("--over", "optimizer.lr=1e-3,4e-3", "--parallel", "2")


@pytest.fixture
def training(tmp_path: Path, dataset: Path) -> Iterator[Training]:
    made = Training(tmp_path, dataset, {"steps": 30, "evaluate": {"every_steps": 10, "sequences": 8}})
    yield made
    made.end()


def attempts(training: Training) -> list[int]:
    """How often each run of the store was begun."""
    runs = sorted((training.folder / "runs").iterdir())
    return [len(list((run / "attempts").glob("*.json"))) for run in runs]


@pytest.mark.slow
def test_a_sweep_that_is_stopped_goes_on_and_trains_nothing_twice(training: Training) -> None:
    sweep = training.start("sweep", "run.yaml", *OVER)
    logs = training.folder / "sweeps" / "small"
    sweep.wait_for("2 of 2: started")
    # Two processes, so that a stop has something to save.
    while not any("step 10" in log.read_text() for log in logs.glob("*.log")):
        assert sweep.popen.poll() is None, sweep.text
    sweep.popen.send_signal(signal.SIGINT)
    assert sweep.wait() in (0, 75), sweep.text

    again = training.start("sweep", "run.yaml", *OVER, "--output", "out.html", "--json")
    assert again.wait() == 0, again.text
    result = json.loads(again.text.splitlines()[-1])
    assert [row["state"] for row in result["rows"]] == ["finished", "finished"]
    assert result["rows"][0]["difference"] == 0
    assert result["best"]["step"] == 30
    assert "loss-plot" in (training.folder / "out.html").read_text()

    before = attempts(training)
    third = training.start("sweep", "run.yaml", *OVER)
    assert third.wait() == 0
    assert "2 of them finished" in third.text
    assert attempts(training) == before

    changed = training.start("sweep", "run.yaml", *OVER, "--set", "seed=7")
    assert changed.wait() == 2
    assert "seed is 1, not 7" in changed.text


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_the_others_go_on(training: Training) -> None:
    # The second set is not there.
    good = json.loads((training.folder / "run.yaml").read_text())["data"]["train"]
    sweep = training.start("sweep", "run.yaml", "--over", f"data.train={good},nowhere")
    assert sweep.wait() == 2, sweep.text
    assert "failed with 2" in sweep.text
    assert "1 of 2 failed" in sweep.text
    assert "nowhere" in sweep.text
    assert "best: data.train=" in sweep.text


@pytest.mark.slow
def test_halving_stops_the_worst_and_the_best_is_a_run_left_alone(training: Training) -> None:
    # Long enough that the sweep, which looks every two seconds, sees the rung before the end.
    length = ("steps=400", "batch.micro_sequences=1")
    over = ("--over", "optimizer.lr=1e-5,4e-3", "--set", length[0], "--set", length[1])
    halved = training.start("sweep", "run.yaml", *over, "--halving", "2", "--json")
    assert halved.wait() == 0, halved.text
    rows = json.loads(halved.text.splitlines()[-1])["rows"]
    assert [(row["settings"]["optimizer.lr"], row["state"]) for row in rows] == [
        (4e-3, "finished"),
        (1e-5, "given up"),
    ]
    alone = training.train("optimizer.lr=4e-3", *length)
    assert alone.wait() == 0
    last = [line for line in training.records() if "validation_loss" in line][-1]
    assert rows[0]["validation_loss"] == last["validation_loss"]
