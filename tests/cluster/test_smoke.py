"""The first things a user does: install a run, see it train to its end, use what it made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster.conftest import MakeRun
from tests.cluster.runs import LONG, assert_nothing_lost
from tests.cluster.store import S3


def test_install_trains_to_the_end(make_run: MakeRun, s3: S3, tmp_path: Path) -> None:
    run = make_run(run={"steps": 60, "checkpoint": {"every_steps": 20}})

    run.namespace.wait("two running workers", 120, lambda: len(run.running_workers()) == 2)
    started = time.monotonic()
    run.wait_for_step(1)
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
