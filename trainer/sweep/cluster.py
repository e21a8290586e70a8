"""Runs of a sweep as jobs: each submitted as `gpt-run job submit` does, a few at a time.

The jobs are the cluster's: a stop of this command leaves them alone, and the same command watches them again. The chart
gets the run as one more values file, behind those of the user.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trainer.durable import write_atomically
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, UserError
from trainer.jobs.backends import run_of_name
from trainer.jobs.cluster import Cluster
from trainer.jobs.render import Rendered, render
from trainer.jobs.state import JobState, Phase
from trainer.jobs.submit import submit
from trainer.sweep.local import StopSwitch
from trainer.sweep.points import Point, Sweep
from trainer.sweep.result import make_result
from trainer.sweep.run import Outcome
from trainer.sweep.standing import Standing, look
from trainer.yaml_dialect import dump_yaml, parse_yaml

_LOOK_SECONDS = 5.0
_STOP_SECONDS = 0.5


@dataclass(frozen=True)
class ClusterOptions:
    """How runs are submitted."""

    folder: Path
    """Where the values files are kept."""
    chart: str
    values: tuple[str, ...]
    max_running: int


class Jobs(Protocol):
    """What a sweep needs of a cluster."""

    def render(self, name: str, chart: str, values: list[str]) -> Rendered:
        """What the chart makes of values."""

    def submit(self, name: str, rendered: Rendered, say: Callable[[str], None]) -> None:
        """Apply it."""

    def state(self, name: str) -> JobState | None:
        """The job of this name; None if there is none."""


class ClusterJobs:
    """By the API server."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def render(self, name: str, chart: str, values: list[str]) -> Rendered:
        return render(
            name,
            chart=chart,
            namespace=self._cluster.namespace,
            values=values,
            overrides=[],
            kube_version=self._cluster.version(),
        )

    def submit(self, name: str, rendered: Rendered, say: Callable[[str], None]) -> None:
        submit(self._cluster, name, rendered, say)

    def state(self, name: str) -> JobState | None:
        found = run_of_name(self._cluster, name)
        return None if found is None else found[1]


@dataclass
class _Progress:
    waiting: deque[Point]
    running: list[Point] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def run_on_cluster(
    sweep: Sweep,
    options: ClusterOptions,
    jobs: Jobs,
    signals: StopSwitch,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Submit what is not finished, wait for all, and compare. Everything is rendered before the first is submitted."""
    rendered = {point.name: jobs.render(point.name, options.chart, _values(point, options)) for point in sweep.points}
    stores = {name: store_of(each) for name, each in rendered.items()}
    before = [look(point, stores[point.name]) for point in sweep.points]
    progress = _Progress(deque(one.point for one in before if not one.finished))
    say(f"{sweep.name}: {len(before)} runs, {len(before) - len(progress.waiting)} of them finished")
    for sentence in sweep.advice:
        say(f"note: {sentence}")
    signals.arm()
    while (progress.waiting or progress.running) and not signals.requested:
        _look(progress, jobs, say)
        while progress.waiting and len(progress.running) < options.max_running:
            _submit(progress, progress.waiting.popleft(), rendered, jobs, say)
        if progress.running:
            _pause(signals, sleep)
    standings = [_look_again(one, stores[one.point.name], say) for one in before]
    result = make_result(
        sweep.name,
        sweep.keys,
        standings,
        failures=progress.failures,
        advice=sweep.advice,
        # A job that is over stays, and would be reported again.
        retry="delete what is there of their jobs, and the same command tries them again",
    )
    if signals.requested and progress.running:
        say(f"{len(progress.running)} jobs go on; the same command watches them, `gpt-run job suspend NAME` stops one")
    code = EXIT_PREEMPTED if signals.requested else EXIT_FAILED if progress.failures else EXIT_FINISHED
    return Outcome(result, code)


def store_of(rendered: Rendered) -> str:
    """`checkpoint.store` of the run file that the chart made, which is the values' `store.url`."""
    for item in rendered.objects:
        if item["kind"] == "ConfigMap" and "run.yaml" in item.get("data", {}):
            run: Any = parse_yaml(item["data"]["run.yaml"], source="run.yaml of the chart")
            return str(run["checkpoint"]["store"])
    raise UserError("the chart renders no run.yaml", expected="a ConfigMap with it", fix="name this project's chart")


def chart_values(point: Point) -> Mapping[str, Any]:
    """The values of a run: its whole config, but for what the chart sets. Null takes a key of other files away."""
    run = point.config.model_dump(mode="json")
    del run["name"]
    del run["checkpoint"]["store"]
    return {"run": run}


def _values(point: Point, options: ClusterOptions) -> list[str]:
    file = options.folder / f"{point.name}.values.yaml"
    write_atomically(file, dump_yaml(chart_values(point)).encode(), durable=False)
    return [*options.values, str(file)]


def _look(progress: _Progress, jobs: Jobs, say: Callable[[str], None]) -> None:
    """Take out of `running` what is over."""
    for point in list(progress.running):
        state = jobs.state(point.name)
        if state is None or state.over:
            progress.running.remove(point)
            _note_end(progress, point, state, say)


def _note_end(progress: _Progress, point: Point, state: JobState | None, say: Callable[[str], None]) -> None:
    if state is not None and state.phase is Phase.SUCCEEDED:
        say(f"{point.name}: finished")
        return
    why = "its job is gone: somebody deleted it" if state is None else f"{state.phase}: {state.message}"
    progress.failures[point.name] = why
    say(f"{point.name}: failed: {why}")


def _submit(
    progress: _Progress, point: Point, rendered: Mapping[str, Rendered], jobs: Jobs, say: Callable[[str], None]
) -> None:
    state = jobs.state(point.name)
    if state is not None and state.over:
        _note_end(progress, point, state, say)
        return
    try:
        jobs.submit(point.name, rendered[point.name], lambda _: None)
    except UserError as error:  # a hook that failed, a quota, another run of this name: the others go on
        progress.failures[point.name] = str(error)
        say(f"{point.name}: not submitted: {error}")
        return
    progress.running.append(point)
    say(f"{point.name} ({point.words}): {'submitted' if state is None else 'is there'}")


def _look_again(before: Standing, store: str, say: Callable[[str], None]) -> Standing:
    found = look(before.point, store)
    if found.report is None and before.report is None:
        say(f"{before.point.name}: {store} has nothing of it")
    return found


def _pause(signals: StopSwitch, sleep: Callable[[float], None]) -> None:
    """Wait a little; a stop is heard sooner."""
    waited = 0.0
    while waited < _LOOK_SECONDS and not signals.requested:
        sleep(_STOP_SECONDS)
        waited += _STOP_SECONDS
