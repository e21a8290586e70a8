"""Wrong input, strangers and failures of elastic runs: what each command says, and with which code it ends."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest

from tests.integration.elastic.conftest import MakeNodes
from tests.integration.nodes import Nodes
from tests.integration.servers import free_port
from tests.integration.training import Process, Training
from tests.unit.elastic.hellos import hello
from trainer.cli.train import COORDINATOR_VARIABLE
from trainer.elastic import messages


def refused(process: Process, *parts: str) -> None:
    assert process.wait() == 2, process.text
    assert "Traceback" not in process.text
    for part in ("error: ", *parts):
        assert part in process.text, f"{part!r} is not in:\n{process.text}"


def test_wrong_numbers_of_machines(training: Training) -> None:
    refused(training.start("train", "run.yaml", "--nnodes=3:2"), "--nnodes 3:2", "MIN:MAX")


def test_several_machines_need_a_coordinator(training: Training) -> None:
    refused(training.start("train", "run.yaml", "--nnodes", "1:2"), "no --coordinator", "gpt-run coordinator")
    refused(training.start("train", "run.yaml", "--coordinator", "host"), "--coordinator host", "HOST:PORT")


def test_a_port_in_use(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1")
    again = nodes.training.start("coordinator", "--port", str(nodes.port), "--http", str(free_port()))
    refused(again, f"port {nodes.port}", "in use", "--port")
    again = nodes.training.start("coordinator", "--port", str(free_port()), "--http", str(nodes.http_port))
    refused(again, f"port {nodes.http_port}", "in use", "--http")


def test_an_address_that_does_not_resolve_is_named_at_once(training: Training) -> None:
    process = training.start("train", "run.yaml", "--nnodes", "1:2", "--coordinator", "nobody.invalid:29400")
    process.wait_for("coordinator nobody.invalid:29400: .*; trying for 300 s")
    process.popen.terminate()
    assert process.wait() == 75


def test_a_launcher_of_another_run_or_config_is_told_why(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1:2", steps=100_000)
    nodes.start()
    nodes.wait_for_steps("a0001", 3)
    refused(nodes.start("name=other"), "run small", "this one has other")
    refused(nodes.start("seed=5"), "have config ", "the same run file")
    assert nodes.status()["world_size"] == 1
    assert len(nodes.training.claims()) == 1


@pytest.mark.slow
def test_a_pod_of_another_config_waits_until_the_others_are_gone(make_nodes: MakeNodes) -> None:
    # Ended, it would be started again and again, and each time count as a failure of the job.
    nodes = make_nodes("1:2", steps=100_000)
    old = nodes.start()
    nodes.wait_for_steps("a0001", 3)
    new = nodes.start("optimizer.lr=1e-4", environment={COORDINATOR_VARIABLE: f"127.0.0.1:{nodes.port}"})
    new.wait_for("^waiting: the launchers that are here have config .*, this one has")
    old.popen.terminate()
    assert old.wait() == 75, old.text
    nodes.wait_for_steps("a0002", 3)
    assert nodes.training.claims()[1]["world_size"] == 1
    new.popen.terminate()
    assert new.wait() == 75, new.text


def test_a_stranger_gets_an_answer_and_disturbs_nobody(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1")
    for line, words in (
        (b"GET / HTTP/1.1\r\n", "not understood"),
        (b'{"type": "beat"}\n', "a beat before the hello"),
        (b'{"type": "hello", "protocol": 1}\n', "not understood: hello.run"),
        (b"[" * 1000 + b"\n", "not understood"),
        (b"\xff\xfe\n", "not understood"),
    ):
        with socket.create_connection(("127.0.0.1", nodes.port), timeout=10) as stranger:
            stranger.sendall(line)
            answer = json.loads(stranger.makefile("rb").readline())
        assert answer["type"] == "refused"
        assert words in answer["message"]
    assert "Traceback" not in nodes.coordinator.text
    assert nodes.status()["phase"] == "waiting"


def test_an_endless_line_is_cut_off(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1")
    with socket.create_connection(("127.0.0.1", nodes.port), timeout=10) as stranger:
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                stranger.sendall(b"x" * messages.LINE_BYTES)
        with contextlib.suppress(ConnectionError):
            assert stranger.recv(1) == b""
    assert nodes.status()["phase"] == "waiting"


def test_another_version_is_told_so(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1")
    with socket.create_connection(("127.0.0.1", nodes.port), timeout=10) as stranger:
        stranger.sendall(messages.line_of(hello(protocol=messages.PROTOCOL + 1, version="99")))
        answer = json.loads(stranger.makefile("rb").readline())
    assert answer["exit_code"] == 2
    assert f"(gpt-run 99) speaks protocol {messages.PROTOCOL + 1}" in answer["message"]


def test_wrong_input_stops_all_without_a_second_try(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("2", data={"train": "nowhere"})
    first, second = nodes.start(), nodes.start()
    refused(first, "nowhere", "expected: ", "to do: ")
    refused(second, "nowhere", "expected: ", "to do: ")
    status = nodes.status()
    assert status["phase"] == "failed"
    assert status["last_error"]["exit_code"] == 2
    assert status["last_error"]["reason"] == "ConfigInvalid"
    assert "nowhere" in status["last_error"]["message"]
    assert status["round"] == 1


@pytest.mark.slow
def test_a_spent_budget_ends_the_run_and_says_on_what(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("2", steps=100_000, elastic={"budget": {"failures": 1}})
    first, second = nodes.start(), nodes.start()
    for attempt in ("a0001", "a0002"):
        nodes.wait_for_steps(attempt, 3)
        second.workers()[0].kill()
    assert [first.wait(), second.wait()] == [1, 1]
    for launcher in (first, second):
        assert "2 failures within 3600 s, elastic.budget allows 1" in launcher.text
        assert launcher.text.count("was ended by SIGKILL") >= 2
    assert nodes.status()["last_error"]["reason"] == "BudgetExhausted"


@pytest.mark.slow
def test_a_new_coordinator_learns_of_failures_from_the_claims(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1", steps=100_000, elastic={"budget": {"failures": 2}})
    launcher = nodes.start()
    for attempt in ("a0001", "a0002"):
        nodes.wait_for_steps(attempt, 3)
        launcher.workers()[0].kill()
    nodes.wait_for_steps("a0003", 3)
    nodes.coordinator.power_off()
    launcher.power_off()
    nodes.start_coordinator()
    launcher = nodes.start()
    nodes.wait_for_steps("a0004", 3)
    launcher.workers()[0].kill()
    assert launcher.wait() == 1
    assert "3 failures within 3600 s, elastic.budget allows 2" in launcher.text


@pytest.mark.slow
def test_two_coordinators_of_one_run_leave_one_world(make_nodes: MakeNodes, tmp_path: object) -> None:
    one = make_nodes("1", steps=100_000, checkpoint={"every_steps": 5})
    older = one.start()
    one.wait_for_steps("a0001", 3)
    two = Nodes(one.training, nodes="1")
    newer = two.start()
    two.wait_for_steps("a0002", 3)
    assert older.wait() == 1
    assert "belongs to attempt a0002" in older.text
    assert newer.popen.poll() is None
    newer.popen.terminate()
    assert newer.wait() == 75


def test_a_taken_status_port_is_passed_over_on_one_machine(make_nodes: MakeNodes) -> None:
    training: Training = make_nodes("1", steps=100_000).training
    first = training.train()
    port = int(first.wait_for(r"status: http://127.0.0.1:(\d+)/status")[1])
    second = training.train("name=another")
    assert int(second.wait_for(r"status: http://127.0.0.1:(\d+)/status")[1]) > port
