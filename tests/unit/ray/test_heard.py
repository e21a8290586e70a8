"""Who is heard under Ray: rank 0 speaks for its round whether or not it takes steps, and a sign of life is no progress.

Ray itself is stood in for: an actor is called directly, so that minutes pass at once.
"""

from __future__ import annotations

import faulthandler
import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest

from trainer.config_file import load_run_config
from trainer.elastic.signals import StopFlag, StopSignals
from trainer.elastic.status import RunStatus
from trainer.ray import desk as desk_module
from trainer.ray import driver as driver_module
from trainer.ray import worker as worker_module
from trainer.ray.desk import Desk
from trainer.ray.driver import Driver, RayJob
from trainer.ray.rounds import Group, Place
from trainer.ray.worker import RayPulse

GROUP = Group("g1", (Place(0, "a", "host-a"), Place(1, "b", "host-b")))


class Actor:
    """Stands for Ray's handle of an actor."""

    def __init__(self, object_: Any) -> None:
        self._object = object_

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._object, name))


class Clock:
    """The time of the driver and of the desk, seconds."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (desk_module, driver_module):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def desk(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk()
    monkeypatch.setattr(driver_module, "open_desk", lambda: Actor(desk))
    context = SimpleNamespace(get_node_id=lambda: "a")
    monkeypatch.setattr(
        driver_module, "ray", SimpleNamespace(get=lambda found: found, get_runtime_context=lambda: context)
    )
    return desk


class Watched:
    """A driver whose round trains, and its page."""

    def __init__(self, desk: Desk) -> None:
        self._status = RunStatus()
        config = load_run_config("tiny-gpt2")
        job = RayJob(config, "gpt-run ray", min_workers=1, max_workers=2, use_gpu=False, resize_seconds=60.0)
        self._driver = Driver(job, self._status, create_autospec(StopSignals, instance=True))
        desk.begin(GROUP)
        desk.tell("g1", {"phase": "training", "step": 7, "took_step": True})
        self.silences()

    def silences(self) -> list[float]:
        """`last_seen_seconds` of all members after the driver has looked."""
        self._driver._hear()
        self._driver._show()
        return [member["last_seen_seconds"] for member in self._status.document()["members"]]

    def steps(self) -> list[int]:
        return [member["step"] for member in self._status.document()["members"]]


@pytest.mark.parametrize("fields", [{"phase": "evaluating"}, {}])
def test_a_worker_that_takes_no_step_is_heard(desk: Desk, clock: Clock, fields: dict[str, Any]) -> None:
    watched = Watched(desk)
    longest = 0.0
    for _ in range(200):
        clock.now += 1.0
        longest = max(longest, *watched.silences())
        desk.tell("g1", dict(fields))
    assert longest == 1.0
    assert watched.steps() == [7, 7]


def test_the_silence_of_a_worker_grows_whoever_else_speaks(desk: Desk, clock: Clock) -> None:
    watched = Watched(desk)
    for seconds in range(1, 201):
        clock.now += 1.0
        desk.tell("g0", {"phase": "saving"})  # of the round before
        assert watched.silences() == [seconds, seconds]


def test_rank_0_gives_signs_of_life_that_do_not_put_off_the_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    alarms: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **_: alarms.append(seconds))
    monkeypatch.setattr(worker_module, "ray", SimpleNamespace(get=lambda found: found))
    told: list[dict[str, Any]] = []
    heard = threading.Semaphore(0)

    class Listener:
        def tell(self, group: str, fields: dict[str, Any]) -> bool:
            told.append(fields)
            heard.release()
            return False

    pulse = RayPulse(Actor(Listener()), "g1", StopFlag(), hang_seconds=600.0)  # type: ignore[arg-type]  # see Actor
    try:
        for _ in range(3):
            assert heard.acquire(timeout=60)
    finally:
        pulse.close()
    assert not any(told)
    assert alarms == [600.0]
