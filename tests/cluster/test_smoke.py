"""The first things a user does: install a run, see it train to its end, use what it made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from tests.cluster.conftest import MakeRun
from tests.cluster.runs import Run
from tests.cluster.store import S3

TRAINING_SECONDS = 60
# Goes on until the test is over.
LONG = {"steps": 100_000, "checkpoint": {"every_steps": 1000}}


def test_install_trains_to_the_end(make_run: MakeRun, s3: S3, tmp_path: Path) -> None:
    run = make_run(run={"steps": 60, "checkpoint": {"every_steps": 20}})

    run.namespace.wait("two running workers", 120, lambda: len(run.running_workers()) == 2)
    started = time.monotonic()
    run.wait_for_step(1, TRAINING_SECONDS)
    print(f"first step {time.monotonic() - started:.1f} s after the workers' start")
    status = run.status()
    assert status["world_size"] == 2
    assert {member["host"] for member in status["members"]} == set(run.running_workers())

    assert run.wait_for_end() == "Succeeded"
    losses = run.store.steps()
    assert sorted(losses) == list(range(1, 61))
    assert losses[60] < losses[1] - 1
    assert [committed["step"] for committed in run.store.checkpoints()] == [20, 40, 60]

    exported = tmp_path / "exported"
    checkpoint = f"{run.store.url}/{run.name}"
    environment = os.environ | s3.environment()
    for arguments in (
        ["checkpoints", "export", checkpoint, "--format", "hf", "--output", str(exported)],
        ["generate", str(exported), "--prompt", "def ", "--max-tokens", "20"],
    ):
        command = [sys.executable, "-m", "trainer", *arguments]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("def ")


def test_scaling_keeps_every_step(make_run: MakeRun) -> None:
    run = make_run(run=LONG)
    run.wait_for_world(2)

    run.scale(3)
    run.wait_for_world(3)
    run.scale(1)
    run.wait_for_world(1)

    assert_nothing_lost(run, attempts=3)


def test_deleted_workers_come_back_and_no_step_is_lost(make_run: MakeRun) -> None:
    run = make_run(run=LONG)
    for attempt, worker in enumerate((f"{run.name}-worker-1", f"{run.name}-worker-0"), start=1):
        run.wait_for_attempt(attempt, size=2)
        run.namespace.kubectl("delete", "pod", worker, "--wait=false")
        run.wait_for_attempt(attempt + 1)

    assert_nothing_lost(run, attempts=3)


def assert_nothing_lost(run: Run, attempts: int) -> None:
    """The attempts followed each other without a step done again, and none of their ends counted as a failure."""
    claims = run.store.claims()
    names = [f"a{claim['attempt']:04}" for claim in claims]
    assert len(names) >= attempts
    assert not [claim for claim in claims if claim["previous_end"] and claim["previous_end"]["counted"]]
    run.namespace.wait("log of the last attempt", 60, lambda: run.store.records(names[attempts - 1]))
    for earlier, later in pairwise(names[:attempts]):
        pause, again = run.store.resumed(earlier, later)
        print(f"{earlier} -> {later}: {pause:.1f} s without a step, {again} steps done again")
        assert again == 0
