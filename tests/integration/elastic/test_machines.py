"""Machines that come, go, fail and freeze under one run, as real processes; the run ends as if left alone."""

from __future__ import annotations

import json
from datetime import datetime

import psutil
import pytest

from tests.integration.clocks import skewed
from tests.integration.elastic.conftest import MakeNodes
from tests.integration.nodes import Nodes
from tests.integration.training import wait_until, wait_until_gone

# Steps of some tens of milliseconds, and a commit after every tenth.
# At a higher learning rate so small a model is unstable, and rounding grows.
RUN = {"steps": 500, "optimizer": {"lr": 3e-4}, "checkpoint": {"every_steps": 10, "keep": {"rolling": 100}}}


@pytest.mark.slow
def test_a_run_under_all_of_it_is_the_run_left_alone(make_nodes: MakeNodes) -> None:
    alone = make_nodes("1", **RUN)
    process = alone.start()
    assert process.wait() == 0, process.text

    nodes = make_nodes("1:3", **RUN)
    first, second, third = (nodes.start() for _ in range(3))
    everything = [*first.tree(), *second.tree(), *third.tree()]
    nodes.wait_for_steps("a0001", 12)
    second.popen.terminate()
    assert second.wait() == 75, second.text
    nodes.wait_for_steps("a0002", 12)
    nodes.start()
    nodes.wait_for_steps("a0003", 12)
    third.power_off()
    nodes.wait_for_steps("a0004", 12)
    first.workers()[0].kill()
    nodes.wait_for_steps("a0005", 12)
    fourth = nodes.launchers[-1]
    everything += [*first.tree(), *fourth.tree()]
    assert [first.wait(), fourth.wait()] == [0, 0], first.text + fourth.text

    claims = nodes.training.claims()
    assert [claim["world_size"] for claim in claims] == [3, 2, 3, 2, 2]
    ends = [(claim["previous_end"]["reason"], claim["previous_end"]["counted"]) for claim in claims[1:]]
    assert ends == [("Preempted", False), ("Scaled", False), ("NodeLost", False), ("WorkerFailed", True)]
    for stopped_gently in ("a0001", "a0002"):
        assert nodes.training.pause_after(stopped_gently)[1] == 0
    for killed in ("a0003", "a0004"):
        assert nodes.training.pause_after(killed)[1] <= 12
    ours, theirs = nodes.training.steps(), alone.training.steps()
    assert list(ours) == list(theirs) == list(range(1, 501))
    assert [batch for _, batch in ours.values()] == [batch for _, batch in theirs.values()]
    assert max(abs(ours[step][0] - theirs[step][0]) for step in ours) <= 1e-5
    wait_until_gone(everything)


@pytest.mark.slow
def test_a_frozen_machine_is_left_behind_and_joins_again(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1:2", steps=100_000)
    _, frozen = nodes.start(), nodes.start()
    nodes.wait_for_steps("a0001", 5)
    members = frozen.freeze()
    nodes.wait_for_steps("a0002", 5)
    for member in members:
        member.resume()
    nodes.wait_for_steps("a0003", 5)
    claims = nodes.training.claims()
    assert [claim["world_size"] for claim in claims] == [2, 1, 2]
    assert [claim["previous_end"]["reason"] for claim in claims[1:]] == ["NodeLost", "Scaled"]
    stop_all(nodes)


@pytest.mark.slow
def test_a_coordinator_that_dies_is_missed_by_nobody(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1:3", steps=100_000)
    nodes.start(), nodes.start()
    nodes.wait_for_steps("a0001", 5)
    nodes.coordinator.power_off()
    before = len(nodes.training.steps())
    nodes.wait_for_steps("a0001", before + 20)
    nodes.start_coordinator()
    # A stranger that comes now waits until those who train are back, and then joins them.
    nodes.start()
    nodes.wait_for_steps("a0002", 5)
    claims = nodes.training.claims()
    assert [claim["world_size"] for claim in claims] == [2, 3]
    assert claims[1]["previous_end"]["reason"] == "Scaled"
    assert nodes.training.pause_after("a0001")[1] == 0
    assert nodes.status()["round"] == 2
    stop_all(nodes)


def test_a_hung_worker_is_ended_with_its_stacks_in_the_store(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("2", steps=100_000, elastic={"hang_seconds": 3})
    launcher, other = nodes.start(), nodes.start()
    nodes.wait_for_steps("a0001", 5)
    # One worker stands still; the other waits for it in a collective, and has stacks to show.
    launcher.workers()[0].suspend()
    nodes.wait_for_steps("a0002", 5)
    end = nodes.training.claims()[1]["previous_end"]
    assert (end["reason"], end["counted"]) == ("Hung", True)
    assert "elastic.hang_seconds" in end["message"]
    wait_until(lambda: "Thread" in "".join(file.read_text() for file in nodes.training.run.glob("logs/a0001/stacks-*")))
    assert nodes.status()["restarts"] == {"Hung": 1}
    stop_all(nodes)
    assert other.popen.returncode == 75


@pytest.mark.slow
def test_a_rank_without_memory_is_named_and_the_run_goes_on(make_nodes: MakeNodes) -> None:
    # Gradients of over 32 MB, for which the allocator asks the kernel in every step anew.
    nodes = make_nodes("2", steps=100_000, model={"vocab_size": 40_000, "width": 256})
    _, poor = nodes.start(), nodes.start()
    nodes.wait_for_steps("a0001", 3)
    worker = poor.workers()[0]
    # Room for what Python itself asks for: a thread that finds none would never say that it has started.
    worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + 16 * 2**20, psutil.RLIM_INFINITY))
    nodes.wait_for_steps("a0002", 1)
    end = nodes.training.claims()[1]["previous_end"]
    assert (end["reason"], end["counted"]) == ("OutOfMemory", True)
    assert nodes.status()["restarts"] == {"OutOfMemory": 1}
    stop_all(nodes)


@pytest.mark.slow
def test_clocks_that_are_apart_change_nothing(make_nodes: MakeNodes) -> None:
    alone = make_nodes("1", steps=40)
    assert alone.start().wait() == 0
    nodes = make_nodes("1:3", steps=40)
    launchers = [nodes.start(environment=skewed(seconds)) for seconds in (5, -5, 3600)]
    assert [launcher.wait() for launcher in launchers] == [0, 0, 0], launchers[0].text
    ours, theirs = nodes.training.steps(), alone.training.steps()
    assert [batch for _, batch in ours.values()] == [batch for _, batch in theirs.values()]
    # The clocks were wrong indeed: the kernel, which dates the file, has the right one.
    claim = nodes.training.run / "attempts" / "a0001.json"
    assert (
        abs(datetime.fromisoformat(json.loads(claim.read_text())["started_at"]).timestamp() - claim.stat().st_mtime) > 4
    )


def test_sigterm_to_all_at_once_saves_one_step(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1:2", steps=100_000)
    nodes.start(nproc=2), nodes.start(nproc=2)
    nodes.wait_for_steps("a0001", 3)
    stop_all(nodes)
    last = max(nodes.training.steps())
    assert nodes.training.checkpoints() == [f"step-{last:08d}-a0001"]
    assert nodes.training.claims()[0]["world_size"] == 4


@pytest.mark.slow
def test_sigterm_at_the_start_of_a_round_counts_for_nothing(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1:2", steps=100_000)
    nodes.start(), nodes.start()
    wait_until(lambda: len(nodes.launchers[1].workers()) == 1)
    nodes.launchers[1].popen.terminate()
    assert nodes.launchers[1].wait() == 75, nodes.launchers[1].text
    wait_until(lambda: bool(claims := nodes.training.claims()) and claims[-1]["world_size"] == 1)
    nodes.wait_for_steps(f"a{len(nodes.training.claims()):04d}", 3)
    assert set(nodes.status()["restarts"]) <= {"Preempted"}
    stop_all(nodes)


@pytest.mark.slow
def test_sigterm_during_an_evaluation_saves_and_the_others_go_on(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1:2", steps=100_000, evaluate={"every_steps": 4})
    nodes.start(), nodes.start()
    wait_until(lambda: nodes.status()["phase"] == "evaluating")
    nodes.launchers[1].popen.terminate()
    assert nodes.launchers[1].wait() == 75, nodes.launchers[1].text
    nodes.wait_for_steps("a0002", 3)
    claim = nodes.training.claims()[1]
    assert claim["world_size"] == 1
    assert claim["base_checkpoint"] == f"step-{max(nodes.training.steps('a0001')):08d}-a0001"
    stop_all(nodes)


def stop_all(nodes: Nodes) -> None:
    """SIGTERM to every machine: all save and end with 75."""
    for launcher in nodes.launchers:
        if launcher.popen.poll() is None:
            launcher.popen.terminate()
    codes = [launcher.wait() for launcher in nodes.launchers]
    assert set(codes) == {75}, "\n".join(launcher.text for launcher in nodes.launchers)
