"""A run that was killed, stopped or moved to other world sizes has the losses and batches of one left alone."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import Training, wait_until_gone
from trainer.checkpoint.layout import parse_name

# Dropout, so that random-number state counts; micro-batches of one, so that a step takes long enough to be hit.
DROPOUT = {"model": {"dropout": 0.1}, "batch": {"micro_sequences": 1}}


@pytest.mark.slow
def test_launcher_killed_at_a_random_step(make_training: MakeTraining, warm: Warm) -> None:
    training = make_training(**DROPOUT, checkpoint={"every_steps": 4})
    process = training.train()
    process.wait_for("^saved ")
    process.wait_for(random_step())
    workers = process.workers()
    process.popen.kill()
    assert len(workers) == 1
    wait_until_gone(workers)
    goes_on_as_if_nothing_had_been(training, make_training, warm, ranks=1)


@pytest.mark.slow
def test_all_ranks_killed_at_a_random_step(make_training: MakeTraining, warm: Warm) -> None:
    training = make_training(**DROPOUT, checkpoint={"every_steps": 4})
    ranks = warm.workers(training, ranks=2)
    ranks[0].wait_for("^saved ")
    ranks[0].wait_for(random_step())
    # At one moment, as a machine does that loses its power.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for rank in ranks:
            os.kill(rank.pid, number)
    assert [rank.wait() for rank in ranks] == [-signal.SIGKILL, -signal.SIGKILL]
    goes_on_as_if_nothing_had_been(training, make_training, warm, ranks=2)


def random_step() -> str:
    return rf"^step +{random.randrange(7, 20)}/"


def goes_on_as_if_nothing_had_been(training: Training, make_training: MakeTraining, warm: Warm, *, ranks: int) -> None:
    alone = make_training(**DROPOUT)
    assert warm.worker(alone, ranks=ranks).code == 0
    expected = alone.steps()
    assert list(expected) == list(range(1, 25))
    before = training.steps()
    assert len(before) < 24

    assert warm.worker(training, ranks=ranks).code == 0
    after = training.steps("a0002")
    base = parse_name(training.claims()[1]["base_checkpoint"])
    assert base is not None
    assert list(after) == list(range(base[0] + 1, 25))
    # Losses bitwise: JSON carries all digits of a float.
    assert before == {step: expected[step] for step in before}
    assert after == {step: expected[step] for step in after}


def test_world_2_to_3_to_1_over_stops(make_training: MakeTraining, warm: Warm) -> None:
    alone = make_training()
    assert warm.worker(alone).code == 0

    training = make_training(batch={"micro_sequences": 1})
    launcher = training.train(nproc=2)
    launcher.wait_for("^step +6/")
    launcher.popen.terminate()
    assert launcher.wait() == 75, launcher.text
    assert "go on:      gpt-run train run.yaml --nproc 2" in launcher.text
    first = saved_everything(training, ranks=2)

    ranks = warm.workers(training, ranks=3)
    ranks[0].wait_for(f"^step +{first + 4}/")
    os.kill(ranks[1].pid, signal.SIGTERM)  # one is enough
    assert [rank.wait() for rank in ranks] == [75, 75, 75]
    second = saved_everything(training, ranks=3)
    assert warm.worker(training).code == 0

    assert training.checkpoints() == [
        f"step-{first:08d}-a0001",
        f"step-{second:08d}-a0002",
        "step-00000024-a0003",
    ]
    spans = [list(training.steps(attempt)) for attempt in ("a0001", "a0002", "a0003")]
    assert spans == [list(range(1, first + 1)), list(range(first + 1, second + 1)), list(range(second + 1, 25))]
    assert [claim["world_size"] for claim in training.claims()] == [2, 3, 1]
    expected = alone.steps()
    for step, (loss, batch) in training.steps().items():
        assert batch == expected[step][1]
        assert loss == pytest.approx(expected[step][0], abs=1e-5)


def saved_everything(training: Training, *, ranks: int) -> int:
    """Assert that all ranks saved the newest step; which one that is."""
    last = max(training.steps())
    saved = training.committed(training.checkpoints()[-1])
    assert saved["step"] == last
    assert saved["world_size"] == ranks
    # Each rank's state is a file of its own, of the same checkpoint.
    assert {f"rank-{rank:05d}.bin" for rank in range(ranks)} <= saved["files"].keys()
    return last
