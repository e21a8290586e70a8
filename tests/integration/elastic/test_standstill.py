"""A coordinator that is stopped for a while, as a starved or paused machine does, takes nobody for lost."""

from __future__ import annotations

import select
import time
from pathlib import Path

import pytest

from tests.integration.nodes import Nodes
from tests.integration.training import Training
from tests.unit.elastic.hellos import hello
from trainer.elastic.link import Link
from trainer.elastic.messages import Beat, FromCoordinator, Ready, Start, StopWorkers
from trainer.elastic.rounds import Rules


@pytest.mark.slow
def test_launchers_that_spoke_meanwhile_are_not_lost(tmp_path: Path) -> None:
    nodes = Nodes(Training(tmp_path, tmp_path / "unused"), nodes="2")
    # What a launcher says, without workers.
    hellos = [hello(id=name, min_nodes=2, max_nodes=2) for name in "ab"]
    links = [Link("127.0.0.1", nodes.port, lambda first=first: [first]) for first in hellos]  # type: ignore[misc]
    heard: list[FromCoordinator] = []

    def talk(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for link in links:
                link.keep_up(time.monotonic())
                link.send(Beat(step=5, took_step=True))
                heard.extend(link.receive())
            select.select([], [], [], 0.1)

    talk(0.2)
    for link in links:
        link.send(Ready(endpoint="127.0.0.1:1"))
    deadline = time.monotonic() + 60
    while sum(isinstance(message, Start) for message in heard) < 2:
        assert time.monotonic() < deadline
        talk(0.1)
    process = nodes.coordinator.tree()[0]
    process.suspend()
    talk(Rules.silent_seconds + 1.5)
    process.resume()
    talk(2.0)
    assert not [message for message in heard if isinstance(message, StopWorkers)]
    assert len(nodes.status()["members"]) == 2
    assert "stood still for" in nodes.coordinator.text
    for link in links:
        link.close()
    nodes.end()
