"""The coordinator over real connections: what it tells whom, and what its HTTP answers say."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import resource
import select
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from pydantic import BaseModel

from tests.unit.elastic.hellos import hello
from trainer.elastic.coordinator import Coordinator
from trainer.elastic.link import Link
from trainer.elastic.messages import (
    Beat,
    Bye,
    Ended,
    FromCoordinator,
    Over,
    Ready,
    Start,
    StopWorkers,
    Waiting,
    line_of,
)
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import End
from trainer.elastic.server import HOST, LocalCoordinator, allow_open_files
from trainer.elastic.status import RunStatus, StatusServer


class Launcher:
    """A launcher without workers."""

    def __init__(self, coordinator: LocalCoordinator, name: str, *, nodes: tuple[int, int]) -> None:
        self.name = name
        self._nodes = nodes
        self.link = Link(HOST, coordinator.port, self._hello)
        self.link.keep_up(0.0)
        self._received: list[FromCoordinator] = []

    def _hello(self) -> list[BaseModel]:
        smallest, largest = self._nodes
        return [hello(id=self.name, host=f"host-{self.name}", min_nodes=smallest, max_nodes=largest)]

    def say(self, *said: BaseModel) -> None:
        for message in said:
            self.link.send(message)

    def wait_for(self, kind: type[BaseModel]) -> BaseModel:
        """The next message of a kind; those before it are dropped."""
        while True:
            while self._received:
                message = self._received.pop(0)
                if isinstance(message, kind):
                    return message
            assert self.link.connected
            select.select(self.link.waitable(), [], [], 0.1)
            self.link.send(Beat())
            self._received += self.link.receive()


@pytest.fixture
def coordinator() -> Iterator[LocalCoordinator]:
    local = LocalCoordinator("small")
    yield local
    local.close()


def get(coordinator: LocalCoordinator, path: str) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{coordinator.http_port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


Connect = Callable[..., Launcher]


@pytest.fixture
def connect(coordinator: LocalCoordinator) -> Iterator[Connect]:
    made: list[Launcher] = []

    def launcher(name: str, *, nodes: tuple[int, int]) -> Launcher:
        made.append(Launcher(coordinator, name, nodes=nodes))
        return made[-1]

    yield launcher
    for one in made:
        one.link.close()


@pytest.mark.parametrize(
    "status",
    [
        {"attempt": 5},
        {"loss": "low"},
        {"goodput_seconds": 5},
        {"eta_time": "soon"},
        {"tokens": 10**400},
        {"totals": {"attempt": "a0001"}},
        {"hosts": [{}]},
    ],
)
def test_a_status_that_makes_no_sense_is_left_out_and_ends_nothing(
    coordinator: LocalCoordinator, connect: Connect, status: dict[str, object]
) -> None:
    launcher = connect("a", nodes=(1, 1))
    launcher.say(Ready(endpoint="a:1"))
    launcher.wait_for(Start)
    launcher.say(Beat(step=4, took_step=True, status={"loss": 2.5}), Beat(step=5, took_step=True, status=status))
    deadline = time.monotonic() + 60.0
    # Beats show at the coordinator's next look.
    while json.loads(get(coordinator, "/status"))["members"][0]["step"] < 5:
        assert time.monotonic() < deadline
        launcher.say(Beat(step=5, took_step=True))
    assert json.loads(get(coordinator, "/status"))["loss"] == 2.5
    assert 'trainer_loss{run="small"} 2.5' in get(coordinator, "/metrics")
    assert launcher.link.connected


def test_two_launchers_from_start_to_finish(coordinator: LocalCoordinator, connect: Connect) -> None:
    first, second = (connect(name, nodes=(2, 2)) for name in "ab")
    first.say(Ready(endpoint="a:1"))
    second.say(Ready(endpoint="b:1"))
    starts = {launcher.name: launcher.wait_for(Start) for launcher in (first, second)}
    ranks = {name: start.first_rank for name, start in starts.items() if isinstance(start, Start)}
    assert sorted(ranks.values()) == [0, 2]
    head = min(ranks, key=lambda name: ranks[name])
    start = starts[head]
    assert isinstance(start, Start)
    assert (start.world_size, start.endpoint, start.previous_end) == (4, f"{head}:1", None)

    first.say(Beat(step=5, took_step=True, status={"phase": "training", "loss": 2.5, "secret": "x"}))
    second.say(Ended(round=start.round, end=End.FAILED, reason=Reason.OUT_OF_MEMORY, exit_code=1, message="too big"))
    stop = first.wait_for(StopWorkers)
    assert isinstance(stop, StopWorkers)
    assert (stop.round, stop.save, stop.reason) == (start.round, False, Reason.OUT_OF_MEMORY)
    status = json.loads(get(coordinator, "/status"))
    assert status["loss"] == 2.5
    assert "secret" not in status
    assert status["phase"] == "draining"
    assert datetime.fromisoformat(status["last_error"].pop("time")).tzinfo is not None
    assert status["last_error"] == {"exit_code": 1, "reason": "OutOfMemory", "message": "too big"}

    first.say(Ended(round=start.round, end=End.STOPPED), Ready(endpoint="a:2"))
    second.say(Ready(endpoint="b:2"))
    again = first.wait_for(Start)
    assert isinstance(again, Start)
    assert again.number == 2
    assert again.previous_end == {"reason": "OutOfMemory", "counted": True, "message": "too big"}
    assert 'gptrun_coordinator_rounds_total{reason="OutOfMemory",run="small"} 1.0' in get(coordinator, "/metrics")
    assert 'gptrun_coordinator_members{run="small"} 2.0' in get(coordinator, "/metrics")

    for launcher in (first, second):
        launcher.say(Ended(round=again.round, end=End.FINISHED))
    for launcher in (first, second):
        over = launcher.wait_for(Over)
        assert isinstance(over, Over)
        assert over.exit_code == 0
    assert json.loads(get(coordinator, "/status"))["phase"] == "finished"

    # The same run again, longer say: what was over is not.
    for launcher in (first, second):
        launcher.say(Bye())
        launcher.link.close()
    next_life = connect("c", nodes=(1, 1))
    next_life.say(Ready(endpoint="c:1"))
    assert isinstance(next_life.wait_for(Start), Start)


def test_status_has_all_fields_of_the_contract(coordinator: LocalCoordinator, connect: Connect) -> None:
    one = connect("a", nodes=(1, 3))
    one.say(Ready(endpoint="a:1"))
    one.wait_for(Start)
    status = json.loads(get(coordinator, "/status"))
    contract = (
        "format run attempt round phase step steps_total tokens loss validation_loss tokens_per_second mfu_ratio "
        "world_size nodes members last_progress_time last_checkpoint goodput_seconds restarts eta_time cost last_error"
    )
    assert set(status) == set(contract.split())
    assert status["nodes"] == {"min": 1, "max": 3}
    assert status["members"][0]["rank"] == 0
    assert set(status["members"][0]) == {"id", "host", "slots", "rank", "step", "last_seen_seconds"}
    assert get(coordinator, "/healthz") == "ok\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(coordinator, "/else")


def test_it_hangs_up_on_a_launcher_that_is_silent() -> None:
    async def say_hello_and_no_more() -> bytes:
        coordinator = Coordinator(hold_seconds=0.0, silent_seconds=0.2)
        port = await coordinator.start(HOST, 0)
        running = asyncio.create_task(coordinator.run())
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(line_of(hello(id="a", host="host-a", min_nodes=1, max_nodes=1)))
        said = b""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(60.0):
                said = await reader.read()
        running.cancel()
        await coordinator.close()
        writer.close()
        return said

    assert asyncio.run(say_hello_and_no_more()) == b""


def test_a_launcher_that_says_goodbye_is_forgotten(connect: Connect) -> None:
    one = connect("a", nodes=(1, 1))
    one.say(Ready(endpoint="a:1"))
    one.wait_for(Start)
    one.say(Bye())
    one.link.close()
    other = connect("b", nodes=(1, 5))  # other numbers of nodes bind nobody any more
    other.say(Ready(endpoint="b:1"))
    assert isinstance(other.wait_for(Start), Start)


def test_it_hangs_up_on_its_launchers_without_a_complaint(caplog: pytest.LogCaptureFixture) -> None:
    coordinator = LocalCoordinator("small")
    launcher = Launcher(coordinator, "a", nodes=(2, 2))
    launcher.say(Ready(endpoint="a:1"))
    launcher.wait_for(Waiting)
    coordinator.close()
    launcher.link.close()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_who_waits_is_not_told_of_every_launcher_that_comes(connect: Connect) -> None:
    began = time.monotonic()
    launchers = [connect(f"{number:02d}", nodes=(30, 30)) for number in range(30)]
    for number, launcher in enumerate(launchers):
        launcher.say(Ready(endpoint="a:1"))
        if number == 0:
            launcher.wait_for(Waiting)
    heard = [message for message in _until_start(launchers[0]) if isinstance(message, Waiting)]
    assert len(heard) <= 1 + (time.monotonic() - began)  # once a second, whatever the number of launchers


def _until_start(launcher: Launcher) -> list[FromCoordinator]:
    found: list[FromCoordinator] = []
    while not any(isinstance(message, Start) for message in found):
        select.select(launcher.link.waitable(), [], [], 0.1)
        launcher.link.send(Beat())
        found += launcher.link.receive()
    return found


def test_a_crowd_can_connect_before_the_coordinator_looks() -> None:
    loop = asyncio.new_event_loop()
    coordinator = Coordinator(run="small")
    port = loop.run_until_complete(coordinator.start(HOST, 0))
    # The loop stands still: whoever comes waits in the kernel, and a launcher waits a second for that.
    crowd = [socket.create_connection((HOST, port), timeout=5) for _ in range(300)]
    for one in crowd:
        one.close()
    loop.run_until_complete(coordinator.close())
    loop.close()


def test_a_run_over_while_its_last_launcher_left_begins_its_next_life(connect: Connect) -> None:
    one = connect("a", nodes=(1, 1))
    one.say(Ready(endpoint="a:1"))
    start = one.wait_for(Start)
    assert isinstance(start, Start)
    one.say(Ended(round=start.round, end=End.INVALID, exit_code=2, message="no such file"), Bye())
    one.link.close()
    other = connect("b", nodes=(1, 1))
    other.say(Ready(endpoint="b:1"))
    assert isinstance(other.wait_for(Start), Start)


def test_the_limit_on_open_files_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] <= 1024:
        pytest.skip(f"this system allows {before[1]} open files")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1024
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_are_bounded(
    coordinator: LocalCoordinator, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reaches the port may connect as often as he likes; each connection could hold a line."""
    monkeypatch.setattr("trainer.elastic.coordinator._MOST_CONNECTIONS", 2)
    member = connect("a", nodes=(1, 1))
    member.say(Ready(endpoint="a:1"))
    member.wait_for(Start)
    stranger, too_many = (socket.create_connection((HOST, coordinator.port), timeout=20) for _ in range(2))
    with stranger, too_many:
        assert too_many.recv(1) == b"", "hung up on"
        member.say(Beat(step=3, took_step=True))
        assert member.link.connected


def test_readers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.elastic.status._MOST_READERS", 1)
    server = StatusServer(RunStatus(), HOST, 0)
    try:
        with socket.create_connection((HOST, server.port), timeout=20) as slow:
            slow.sendall(b"GET /healthz")
            with socket.create_connection((HOST, server.port), timeout=20) as second:
                assert second.recv(1) == b"", "hung up on"
        for _ in range(100):  # the first has gone: its place is free again
            with contextlib.suppress(OSError, http.client.HTTPException):
                url = f"http://{HOST}:{server.port}/healthz"
                with urllib.request.urlopen(url, timeout=20) as answer:
                    assert answer.read() == b"ok\n"
                    return
            time.sleep(0.05)
        pytest.fail("no place became free")
    finally:
        server.close()
