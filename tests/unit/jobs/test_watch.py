"""Waiting for a run: what is said when, by a back-end and a cluster that tell a given story."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from rich.console import Console

from trainer.errors import UserError
from trainer.jobs.backends import Backend
from trainer.jobs.cluster import Cluster
from trainer.jobs.display import Lines, display
from trainer.jobs.logs import waiting_for
from trainer.jobs.state import ContainerEnd, JobState, Phase, Pod
from trainer.jobs.status import unanswered
from trainer.jobs.watch import Outcome, View, Watch, report

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = JobState("PyTorchJob", "gpt2", Phase.RUNNING, "", replicas=2, min_replicas=2, max_replicas=4, uid="u")
POD = Pod("gpt2-worker-0", "a", "worker", "pytorch", NOW)
Moment = tuple[Phase, Sequence[Pod], dict[str, Any] | None]


class Story:
    """A back-end and a cluster in one: each look sees the next moment."""

    def __init__(self, *moments: Moment) -> None:
        self._moments = list(moments)
        self._now: Moment = moments[0]

    def read(self, name: str) -> JobState | None:
        if not self._moments:
            return None
        self._now = self._moments.pop(0)
        return replace(RUN, name=name, phase=self._now[0])

    def pods(self, _name: str) -> Sequence[Pod]:
        return self._now[1]

    def status(self, _name: str) -> dict[str, Any] | None:
        return self._now[2]


def watch(story: Story, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, list[str]]:
    """Wait for the story's end; what was said on the way."""
    monkeypatch.setattr("trainer.jobs.watch.LOOK_SECONDS", 0)
    said: list[str] = []
    watched = Watch(cast(Cluster, story), cast(Backend, story), "gpt2")
    return watched.wait_for_end(Lines(said.append), timeout_seconds=None), said


def test_each_thing_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pulling = replace(POD, stuck=("ImagePullBackOff", "Back-off 10s"))
    pulling_still = replace(POD, stuck=("ImagePullBackOff", "Back-off 20s"))
    trains = {"phase": "training", "step": 1, "steps_total": 9}
    failed = {**trains, "last_error": {"message": "error: rank 1 died"}}
    outcome, said = watch(
        Story(
            (Phase.PENDING, [pulling], None),
            (Phase.PENDING, [pulling_still], None),
            (Phase.RUNNING, [POD], trains),
            (Phase.RUNNING, [POD], failed),
            # A coordinator that is away takes nothing back.
            (Phase.RUNNING, [POD], None),
            (Phase.SUCCEEDED, [], failed),
        ),
        monkeypatch,
    )
    assert outcome.exit_code == 0
    assert said == [
        "pending",
        "gpt2-worker-0: ImagePullBackOff: Back-off 10s",
        "training  step 1/9",
        "last error: error: rank 1 died",
        "succeeded  step 1/9",
    ]


class Clock:
    """Stands for the module `time` of the watch: time passes while it sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("pending", "silent", "hints"), [(100, 30, 0), (0, 31, 1), (100, 100, 1)], ids=["starts", "a minute", "for long"]
)
def test_a_coordinator_that_cannot_be_reached_is_told_once(
    monkeypatch: pytest.MonkeyPatch, pending: int, silent: int, hints: int
) -> None:
    """A look every two seconds: a run that has been Running for a minute without a status is told of, once."""
    monkeypatch.setattr("trainer.jobs.watch.time", Clock())
    story = Story(
        *[(Phase.PENDING, [POD], None)] * pending,
        *[(Phase.RUNNING, [POD], None)] * silent,
        *[(Phase.RUNNING, [POD], {"phase": "training"})] * 100,
        (Phase.SUCCEEDED, [], None),
    )
    said: list[str] = []
    Watch(cast(Cluster, story), cast(Backend, story), "gpt2").wait_for_end(Lines(said.append), timeout_seconds=None)
    assert [line for line in said if "NetworkPolicy" in line] == unanswered("gpt2", Phase.RUNNING)[1:] * hints
    assert said.count("gpt2 is Running, and its coordinator does not answer") == hints


def test_a_run_that_is_deleted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="gpt2 is gone"):
        watch(Story((Phase.RUNNING, [], None)), monkeypatch)


@pytest.mark.parametrize(("phase", "code"), [(Phase.SUCCEEDED, 0), (Phase.FAILED, 1), (Phase.SUSPENDED, 75)], ids=str)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, phase: Phase, code: int) -> None:
    outcome, _ = watch(Story((Phase.RUNNING, [POD], None), (phase, [], None)), monkeypatch)
    assert (outcome.exit_code, outcome.timed_out) == (code, False)


def test_the_report_of_a_failure() -> None:
    ended = replace(POD, end=ContainerEnd(1, "error: 4 failures"))
    document = {"phase": "failed", "last_error": {"exit_code": 1, "message": "error: rank 1 died"}}
    view = View(Phase.FAILED, "backoffLimit reached", (ended,), document)
    assert report(Outcome(view, 1), "gpt2", None) == [
        "gpt2 is Failed: backoffLimit reached",
        "last error: error: rank 1 died",
        "gpt2-worker-0 ended with 1: error: 4 failures",
    ]


def test_the_report_of_a_wait_in_vain() -> None:
    view = View(Phase.PENDING, "", (POD,), None)
    assert report(Outcome(view, 1, timed_out=True), "gpt2", 30.0) == ["gpt2 is Pending after 30 s; it goes on"]


def test_why_there_is_no_log() -> None:
    assert waiting_for(RUN, [POD]) == "gpt2 is Running, and no worker has started"
    stuck = replace(POD, stuck=("Unschedulable", "0/4 nodes are available"))
    assert waiting_for(RUN, [stuck]) == "gpt2 is Running: gpt2-worker-0: Unschedulable: 0/4 nodes are available"


def test_a_bar_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with display(console) as shown:
        shown.show(Phase.RUNNING, {"phase": "training", "step": 3, "steps_total": 9, "loss": 2.5}, NOW)
        shown.say("gpt2-worker-0: [ImagePullBackOff]")
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    assert "training" in text
    assert "3/9" in text
    assert "loss 2.5000" in text
    assert "gpt2-worker-0: [ImagePullBackOff]" in text
