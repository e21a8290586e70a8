"""Each fault of a real run makes the shipped rule fire in a real Prometheus, and its end resolves it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.metrics.conftest import MakeNodes, Watch
from tests.integration.metrics.scraping import WAIT_SECONDS, Prometheus
from tests.integration.servers import BUCKET, free_port, s3_environment, s3_server

pytestmark = pytest.mark.slow


def test_a_run_that_hangs(make_nodes: MakeNodes, watch: Watch) -> None:
    nodes = make_nodes()
    server = watch(nodes)
    launcher = nodes.start(nproc=2)
    wait_for_steps(server)
    worker = launcher.workers()[1]
    worker.suspend()
    fires(server, "GptRunStalled")
    worker.resume()
    server.wait_for("GptRunStalled", "inactive")
    assert "GptRunFailed" not in server.alerts()


def test_a_loss_that_is_not_a_number(make_nodes: MakeNodes, watch: Watch) -> None:
    nodes = make_nodes(guard={"nonfinite_steps": 1_000_000}, checkpoint={"every_steps": 1_000_000})
    server = watch(nodes)
    good = nodes.start()
    wait_for_steps(server)
    good.popen.terminate()
    assert good.wait() == 75, good.text
    # Weights overflow in an update, so that every later loss is not a number; nothing of it is saved.
    bad = nodes.start("optimizer.lr=1e35")
    server.wait_for("GptRunNonFiniteLoss", "firing")
    bad.power_off()
    nodes.start()
    wait_for_steps(server)
    server.wait_for("GptRunNonFiniteLoss", "inactive")


def test_a_store_that_is_down(make_nodes: MakeNodes, watch: Watch, tmp_path: Path) -> None:
    port = free_port()
    nodes = make_nodes(checkpoint={"store": f"s3://{BUCKET}", "every_seconds": 1})
    server = watch(nodes)
    with s3_server(tmp_path / "s3", port=port):
        nodes.start(environment=s3_environment(port))
        server.wait_until(lambda: server.query("trainer_checkpoint_last_timestamp_seconds"), "no checkpoint")
    fires(server, "GptRunCheckpointOld")
    server.wait_for("GptRunCheckpointFailing", "firing")
    with s3_server(tmp_path / "s3", port=port):
        server.wait_for("GptRunCheckpointOld", "inactive")
        server.wait_for("GptRunCheckpointFailing", "inactive")
        assert "GptRunStalled" not in server.alerts()


@pytest.mark.timeout(600)
def test_a_rank_that_is_slow(make_nodes: MakeNodes, watch: Watch) -> None:
    # Steps are profiled more seldom where that costs much, as it does with steps this short: hence the patience.
    nodes = make_nodes(log={"every_steps": 5, "profile_seconds": 0.01}, batch={"sequences": 64, "micro_sequences": 32})
    server = watch(nodes)
    launcher = nodes.start(nproc=2)
    wait_for_steps(server)
    server.wait_until(lambda: server.query("trainer_slowest_rank"), "no rank was measured")
    with slowed(launcher.workers()[1]):
        fires(server, "GptRunStraggler", seconds=240)
        server.wait_until(lambda: server.query("trainer_slowest_rank")[0][1] == 1, "rank 1 is not the slowest")
    server.wait_for("GptRunStraggler", "inactive", seconds=240)


def test_workers_that_are_killed_again_and_again(make_nodes: MakeNodes, watch: Watch) -> None:
    nodes = make_nodes()
    server = watch(nodes)
    launcher = nodes.start()
    for kills in range(1, 4):
        wait_for_steps(server)
        launcher.workers()[0].kill()
        restarted = f"sum(trainer_restarts_total) == {kills}"
        server.wait_until(lambda query=restarted: server.query(query), f"no restart {kills}")  # type: ignore[misc]
    server.wait_for("GptRunRestartStorm", "firing")
    wait_for_steps(server)
    server.wait_for("GptRunRestartStorm", "inactive")


def fires(server: Prometheus, alert: str, *, seconds: float = WAIT_SECONDS) -> None:
    """Wait until an alert with a `for:` fires, which it was pending before."""
    server.wait_for(alert, "firing", seconds)
    assert server.has_been(alert, "pending")


def wait_for_steps(server: Prometheus) -> None:
    """Wait until the run makes steps, as Prometheus sees it."""
    server.wait_until(lambda: server.query("increase(trainer_steps_total[2s]) > 0"), "no steps")


@contextlib.contextmanager
def slowed(worker: psutil.Process) -> Iterator[None]:
    """Let a process run for a fifth of the time only."""
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.is_set():
            worker.suspend()
            time.sleep(0.04)
            worker.resume()
            time.sleep(0.01)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
