"""`gpt-run report` on a run that was killed and went on with more workers, from its disk and from a bucket."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import datetime

import fsspec
import pytest

from tests.integration.servers import Server
from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import Training
from trainer.checkpoint.layout import parse_name
from trainer.metrics.report import Report


@pytest.fixture
def killed_and_scaled(make_training: MakeTraining, warm: Warm) -> Training:
    """One rank, killed without a warning behind its second commit; then two, to the end."""
    training = make_training(
        steps=18,
        checkpoint={"every_steps": 4},
        evaluate={"every_steps": 6, "sequences": 4},
        cost={"price_per_gpu_hour": 36.0, "currency": "EUR"},
    )
    (rank,) = warm.workers(training)
    rank.wait_for("(?s)^saved .*^saved .*^step +1[0-7]/")
    os.kill(rank.pid, signal.SIGKILL)
    rank.wait()
    assert warm.worker(training, ranks=2).code == 0
    return training


def test_a_run_that_was_killed_and_scaled(
    killed_and_scaled: Training, warm: Warm, start_server: Callable[[str], Server]
) -> None:
    training = killed_and_scaled
    ended = warm.command(training, "report", "runs/small", "--output", "report.html", "--json")
    assert ended.code == 0, ended.text
    report = Report.model_validate_json(ended.text.splitlines()[-1])

    step, _ = parse_name(training.claims()[1]["base_checkpoint"]) or (0, 0)
    assert (report.step, report.steps_planned, report.loss) == (18, 18, training.steps()[18][0])
    first, second = report.attempts
    assert (first.world_size, second.world_size) == (1, 2)
    assert (first.last_step, first.steps_redone) == (max(training.steps("a0001")), max(training.steps("a0001")) - step)
    assert second.base_checkpoint == training.claims()[1]["base_checkpoint"]
    assert report.end is not None
    assert report.end.reason == "finished"
    assert report.validation_loss == training.records("a0002")[-1].get("validation_loss", report.validation_loss)
    assert [row.world_size for row in report.performance.scaling] == [1, 2]
    assert report.performance.scaling[0].efficiency == 1
    assert report.checkpoints.committed == len(training.checkpoints())
    assert report.checkpoints.failures == 0

    # The account of the run's whole life: it adds up, and what was done twice is in it.
    assert report.goodput is not None
    assert report.wall_seconds is not None
    last = json.loads(next(iter(training.run.glob("logs/a0002/performance-*"))).read_text().splitlines()[-1])
    assert report.goodput.seconds == last["goodput_seconds"]
    assert report.goodput.seconds["wasted_progress"] > 0
    assert report.cost is not None
    assert report.cost.spent == pytest.approx(sum(last["gpu_seconds"].values()) / 100, rel=1e-6)
    assert report.cost.lost is not None
    assert 0 < report.cost.lost < report.cost.spent
    assert report.hosts is not None
    assert "GPU" in " ".join(report.missing)
    assert datetime.fromisoformat(last["time"]) <= (report.last_sign_at or report.made_at)

    page = (training.folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "goodput-plot" in page
    shown = warm.command(training, "report", "runs/small")
    assert "step 18 of 18 (100.0%)" in shown.text
    assert "wasted_progress" in shown.text
    in_a_bucket(training, warm, start_server("s3"), report)


def in_a_bucket(training: Training, warm: Warm, server: Server, expected: Report) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").put(str(training.run) + "/", "bucket/reports/small/", recursive=True)
    url = f"{server.url}/reports/small"
    ended = warm.command(training, "report", url, "--json", environment=server.environment)
    assert ended.code == 0, ended.text
    found = Report.model_validate_json(ended.text.splitlines()[-1])
    same = {"made_at": found.made_at, "url": found.url}
    assert found == expected.model_copy(update=same)


def test_a_place_without_a_run_is_refused(training: Training, warm: Warm) -> None:
    warm.command(training, "report", "runs/none").refused("runs/none is not a run", "nothing is there")
    warm.command(training, "report", ".", "--output", "run.yaml/x.html").refused("run.yaml is no folder")
