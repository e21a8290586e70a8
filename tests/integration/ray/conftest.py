"""Ray clusters on this machine, of real `ray start` processes, and runs on them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.servers import free_port
from tests.integration.training import ENVIRONMENT, Process, Training, processes_of, read_status, sets

# A world is a dozen processes that all import Ray: minutes on a machine with other work.
WAIT_SECONDS = 400
TEST_SECONDS = 1800
_OBJECT_STORE_BYTES = 80 * 2**20
AUTHENTICATION = {"RAY_AUTH_MODE": "disabled"}
# Ray's default of 15 would have tests wait for whatever else the machine does.
NICENESS = {"RAY_worker_niceness": "0"}


class Cluster:
    """Ray nodes that stand for pods: each a `ray start --block`, as KubeRay starts them."""

    def __init__(self) -> None:
        # Sockets lie below it, and their paths must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="gpt-run-", dir="/tmp"))
        self._nodes: list[subprocess.Popen[bytes]] = []
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._head = ("--head", f"--port={port}", "--num-cpus=0", f"--temp-dir={self._folder}")

    def start(self) -> None:
        """Start the head, which has no room for workers."""
        self._start(*self._head, "--include-dashboard=false")

    def add_node(self, cpus: int) -> subprocess.Popen[bytes]:
        """One more node; its process."""
        return self._start(f"--address={self.address}", f"--num-cpus={cpus}")

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            node, log = self._start_process(arguments)
            while "Ray runtime started" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                if node.poll() is not None:
                    break  # a node gives up when its processes are not up within 30 s, as on a busy machine
                time.sleep(0.05)
            else:
                return node

    def _start_process(self, arguments: tuple[str, ...]) -> tuple[subprocess.Popen[bytes], Path]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        log = self._folder / f"node-{len(self._nodes)}.txt"
        with log.open("wb") as output:
            node = subprocess.Popen(
                [*command, f"--object-store-memory={_OBJECT_STORE_BYTES}", *arguments],
                env=os.environ | ENVIRONMENT | AUTHENTICATION | NICENESS,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._nodes.append(node)
        return node, log

    def workers(self) -> list[psutil.Process]:
        """Workers of groups on any node, by the title that Ray gives them."""
        return [one for one in self._members() if _title(one).startswith("ray::RayTrainWorker")]

    def end(self) -> None:
        """Kill everything that came from it."""
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for member in self._members():
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.send_signal(number)
        for node in self._nodes:
            node.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _members(self) -> list[psutil.Process]:
        """Processes of all nodes: a node is a session."""
        return processes_of({node.pid for node in self._nodes})


class RayTraining(Training):
    """A run on a cluster."""

    wait_seconds = WAIT_SECONDS

    def __init__(self, cluster: Cluster, folder: Path, dataset: Path, changes: dict[str, Any]) -> None:
        super().__init__(folder, dataset, changes)
        self._cluster = cluster
        self.http_port = 0
        """Of the newest driver."""

    def ray(self, *overrides: str, workers: str = "1") -> Process:
        """`gpt-run ray run.yaml`, started."""
        self.http_port = free_port()
        options = ("--workers", workers, "--resize-seconds", "1", "--http", str(self.http_port))
        environment = {"RAY_ADDRESS": self._cluster.address, **AUTHENTICATION}
        return self.start("ray", "run.yaml", *options, *sets(overrides), environment=environment)

    def status(self) -> dict[str, Any]:
        """The driver's /status."""
        return read_status(self.http_port)


MakeRun = Callable[..., RayTraining]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A head without room for workers, and a node with room for two."""
    made = Cluster()
    try:
        made.start()
        made.add_node(2)
        yield made
    finally:
        made.end()


@pytest.fixture
def make_run(cluster: Cluster, tmp_path: Path, dataset: Path) -> Iterator[MakeRun]:
    """Make a run on the shared cluster; keyword arguments change the run file."""
    made: list[RayTraining] = []

    def make(on: Cluster = cluster, **changes: Any) -> RayTraining:
        made.append(RayTraining(on, tmp_path / str(len(made)), dataset, changes))
        return made[-1]

    yield make
    for one in made:
        one.end()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
