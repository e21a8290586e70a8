"""The loop that submits and waits. The API server and helm are stood in for by `FakeJobs`: tests/cluster has real ones,
and what this loop calls of them is what `gpt-run job submit` calls.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.config import RunConfig
from trainer.config_file import validate_run
from trainer.elastic.signals import StopFlag
from trainer.errors import UserError
from trainer.jobs.render import Rendered
from trainer.jobs.state import JobState, Phase
from trainer.sweep.cluster import ClusterOptions, chart_values, run_on_cluster, store_of
from trainer.sweep.points import Request, Sweep, make_sweep
from trainer.yaml_dialect import dump_yaml, load_yaml


class Stop(StopFlag):
    """Signals that a test gives."""

    insisted = False


class FakeJobs:
    """Jobs that run for two looks and then are in the phase that a test has given their name."""

    def __init__(self, store: Path, phases: dict[str, Phase]) -> None:
        self.store = store
        self.phases = phases
        self.looks: dict[str, int] = {}
        self.submitted: list[str] = []
        self.most = 0
        self.over: set[str] = set()
        self.refused: set[str] = set()

    def render(self, name: str, chart: str, values: list[str]) -> Rendered:
        assert chart == "chart"
        assert values[0] == "user.yaml"
        run: Any = load_yaml(Path(values[1]))["run"]  # type: ignore[index]  # a mapping
        run |= {"name": name, "checkpoint": {**run["checkpoint"], "store": str(self.store)}}
        return Rendered([], [{"kind": "ConfigMap", "data": {"run.yaml": dump_yaml(run)}}])

    def submit(self, name: str, rendered: Rendered, say: Callable[[str], None]) -> None:
        if name in self.refused:
            raise UserError(f"{name}: no quota", expected="room", fix="wait")
        self.submitted.append(name)
        self.looks[name] = 0
        self.most = max(self.most, len(set(self.looks) - self.over))

    def state(self, name: str) -> JobState | None:
        if name not in self.looks:
            return None
        self.looks[name] += 1
        phase = self.phases[name] if self.looks[name] > 2 else Phase.RUNNING
        if phase is not Phase.RUNNING:
            self.over.add(name)
        return JobState("PyTorchJob", name, phase, "why", 1, 1, 1, "uid")


@pytest.fixture
def made() -> Sweep:
    return make_sweep(Request("tiny-gpt2", ("optimizer.lr=1e-3,2e-3,4e-3", "batch.sequences=8,16"), ("tokens=100000",)))


def run(made: Sweep, jobs: FakeJobs, folder: Path, signals: Stop | None = None, running: int = 2) -> Any:
    said: list[str] = []
    options = ClusterOptions(folder, "chart", ("user.yaml",), running)
    outcome = run_on_cluster(made, options, jobs, signals or Stop(), said.append, lambda _: None)
    return outcome, said


def test_all_are_submitted_a_few_at_a_time(made: Sweep, tmp_path: Path) -> None:
    names = [point.name for point in made.points]
    jobs = FakeJobs(tmp_path / "store", dict.fromkeys(names, Phase.SUCCEEDED))
    outcome, _ = run(made, jobs, tmp_path)
    assert jobs.submitted == names
    assert jobs.most == 2
    assert outcome.exit_code == 0


def test_failures_are_told_and_the_others_go_on(made: Sweep, tmp_path: Path) -> None:
    names = [point.name for point in made.points]
    phases = dict.fromkeys(names, Phase.SUCCEEDED) | {names[1]: Phase.FAILED}
    jobs = FakeJobs(tmp_path / "store", phases)
    jobs.refused = {names[2]}
    outcome, said = run(made, jobs, tmp_path)
    assert outcome.exit_code == 1
    assert set(jobs.submitted) == set(names) - {names[2]}
    messages = {row.runs[0]: row.message for row in outcome.result.rows}
    assert "Failed: why" in messages[names[1]]
    assert "no quota" in messages[names[2]]
    assert any(line.startswith(f"{names[1]}: failed") for line in said)
    # A job that is over is not submitted again.
    assert any("delete what is there of their jobs" in note for note in outcome.result.notes)
    submitted = list(jobs.submitted)
    run(made, jobs, tmp_path)
    assert names[1] not in jobs.submitted[len(submitted) :]


def test_a_stop_leaves_jobs_alone_and_the_same_command_watches_them(made: Sweep, tmp_path: Path) -> None:
    names = [point.name for point in made.points]
    jobs = FakeJobs(tmp_path / "store", dict.fromkeys(names, Phase.SUCCEEDED))
    signals = Stop()
    options = ClusterOptions(tmp_path, "chart", ("user.yaml",), 2)

    def stop(_: float) -> None:
        signals.requested = True

    stopped = run_on_cluster(made, options, jobs, signals, lambda _: None, stop)
    assert stopped.exit_code == 75
    assert jobs.submitted == names[:2]
    outcome, said = run(made, jobs, tmp_path)
    assert outcome.exit_code == 0
    # Those that were there are either watched, which submits them again as they are, or over.
    assert set(jobs.submitted) == set(names)
    assert said[0].endswith("6 runs, 0 of them finished")


def test_the_chart_gets_the_run_and_says_where_the_store_is(made: Sweep) -> None:
    point = made.points[0]
    values = chart_values(point)["run"]
    assert "name" not in values
    assert "store" not in values["checkpoint"]
    assert values["steps"] is None  # takes the steps of another values file away
    back: RunConfig = validate_run({**values, "name": point.name}, source="values")
    assert back.model_copy(update={"checkpoint": point.config.checkpoint}) == point.config
    with pytest.raises(UserError, match=r"renders no run\.yaml"):
        store_of(Rendered([], []))
