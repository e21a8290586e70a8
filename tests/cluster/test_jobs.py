"""`gpt-run job`, `status` and `sweep --cluster` as a user types them: real operator, kubelets, pods and logs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cluster.client import Namespace, Object
from tests.cluster.runs import CHART, LONG, RESOURCES, SMALL, Run, settings
from tests.cluster.store import S3, SECRET, Store, figures
from trainer.errors import EXIT_PREEMPTED, EXIT_USER_ERROR

COMMAND_SECONDS = 300


@dataclass(frozen=True)
class Commands:
    """The command line, in a namespace."""

    namespace: Namespace
    values: Callable[[Object], Path]
    """Writes a values file for a run block."""
    folder: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command, environment = self.namespace.gpt_run(*words)
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )

    def start(self, *words: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a command; its standard output goes to a file."""
        output = self.folder / "output"
        command, environment = self.namespace.gpt_run(*words)
        with output.open("wb") as handle:
            return subprocess.Popen(command, env=environment, stdout=handle), output

    def submit(self, name: str, run: Object, *words: str) -> subprocess.CompletedProcess[str]:
        """Submit a run of two workers, one to three."""
        return self.run("job", "submit", name, "--chart", str(CHART), "-f", str(self.values(run)), *words)


@pytest.fixture
def store(s3: S3, bucket: str) -> Store:
    """Of the test's one run."""
    return Store(s3, bucket, "demo")


@pytest.fixture
def commands(namespace: Namespace, store: Store, dataset: str, description: dict[str, str], tmp_path: Path) -> Commands:
    """Commands in a namespace that has the store's Secret."""
    namespace.apply([store.s3.secret()])
    repository, _, tag = description["image"].rpartition(":")

    def values(run: Object) -> Path:
        content = {
            "run": settings(dataset, run),
            "image": {"repository": repository, "tag": tag},
            "workers": {"replicas": 2, "min": 1, "max": 3, "resources": RESOURCES, **SMALL},
            "gpu": {"perWorker": None},
            "store": {"url": store.url, "secretName": SECRET},
        }
        file = tmp_path / "values.json"
        file.write_text(json.dumps(content))
        return file

    return Commands(namespace, values, tmp_path)


def test_submit_waits_for_the_end(commands: Commands) -> None:
    result = commands.submit("demo", {"steps": 60}, "--wait")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert "Job/demo-preflight is done" in lines
    assert "PyTorchJob/demo created" in lines
    assert any(line.startswith("training  step") and "loss" in line for line in lines)
    assert lines[-1].startswith("demo is Succeeded")

    commands.namespace.kubectl("delete", "pytorchjob/demo")
    gone = "services,deployments,configmaps,poddisruptionbudgets"
    commands.namespace.wait(
        "removal of what the job owns", 60, lambda: not commands.namespace.objects(gone, "gptrun.io/run=demo")
    )


def test_a_run_is_scaled_suspended_and_followed(commands: Commands, store: Store) -> None:
    run = Run("demo", commands.namespace, store)
    assert commands.submit("demo", LONG).returncode == 0
    following, log = commands.start("job", "logs", "demo", "--follow")
    try:
        run.wait_for_world(2)
        assert commands.run("job", "scale", "demo", "3").returncode == 0
        run.wait_for_world(3)
        shown = commands.run("status", "demo").stdout
        assert "3 on 3 machines, 1 to 3 may take part" in shown

        # Rank 0's pod goes; the log goes on with the one that takes its place.
        first = commands.run("job", "logs", "demo", "--tail", "1")
        assert first.returncode == 0
        attempt = int(run.status()["attempt"].removeprefix("a"))
        commands.namespace.kubectl("delete", "pod", run.status()["members"][0]["host"], "--wait=false")
        run.wait_for_attempt(attempt + 1)
        step = run.status()["step"]
        run.wait_for_step(step + 5)
        commands.namespace.wait("the log of the new rank 0", 30, lambda: max(logged_steps(log), default=0) > step)

        assert commands.run("job", "suspend", "demo", "--wait").returncode == 0
        assert run.workers() == []
        assert commands.run("job", "wait", "demo").returncode == EXIT_PREEMPTED
        suspended_at = run.status()["step"]
        assert commands.run("job", "resume", "demo", "--wait").returncode == 0
        run.wait_for_step(suspended_at + 5)
        commands.namespace.wait("the log after the resume", 30, lambda: max(logged_steps(log)) > suspended_at)
    finally:
        following.terminate()
        following.wait(timeout=10)
    steps = logged_steps(log)
    assert all(later == earlier + 1 for earlier, later in pairwise(steps)), steps


def test_a_preflight_that_fails_is_the_end(commands: Commands) -> None:
    result = commands.submit("demo", {"data": {"train": "s3://no-such-bucket/data"}})
    assert result.returncode == EXIT_USER_ERROR
    assert "demo-preflight" in result.stderr
    assert "no-such-bucket" in result.stderr
    assert commands.namespace.get("pytorchjob", "demo") is None


def test_an_image_that_is_missing_is_told(commands: Commands) -> None:
    settings = ("--set", "image.tag=missing", "--set", "jobs.preflight.enabled=false")
    result = commands.submit("demo", LONG, *settings, "--wait", "--timeout", "30")
    assert result.returncode == 1
    assert "ErrImageNeverPull" in result.stdout or "ImagePull" in result.stdout


def test_a_sweep_submits_awaits_and_compares(
    commands: Commands, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.s3.environment().items():
        monkeypatch.setenv(name, value)
    values = commands.values({"steps": 20, "evaluate": {"every_steps": 10, "sequences": 8}})
    run = tmp_path / "run.yaml"
    run.write_text(json.dumps({"name": "demo", **json.loads(values.read_text())["run"]}))
    words = ["sweep", str(run), "--over", "optimizer.lr=1e-3,1e-5", "--folder", str(tmp_path / "sweep"), "--json"]
    words += ["--cluster", "--chart", str(CHART), "--values", str(values), "--max-running", "1"]
    done = commands.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.rpartition(": ")[2] for line in done.stderr.splitlines() if line.startswith("demo-")]
    assert said == ["submitted", "finished", "submitted", "finished"]
    result = json.loads(done.stdout)
    assert [row["state"] for row in result["rows"]] == ["finished", "finished"]
    assert result["best"]["settings"] == {"optimizer.lr": 1e-3}
    assert result["best"]["validation_loss"] < result["rows"][1]["validation_loss"]

    again = commands.run(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 runs, 2 of them finished" in again.stderr
    assert json.loads(again.stdout) == result


def logged_steps(log: Path) -> list[int]:
    """Steps of the lines of figures, in the order of the log."""
    return [record["step"] for record in figures(log.read_text().splitlines())]
