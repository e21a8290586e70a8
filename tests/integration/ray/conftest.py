"""Ray clusters on this machine, of real `ray start` processes, and runs on them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.servers import free_port
from tests.integration.training import ENVIRONMENT, WAIT_SECONDS, Process, Training, prepare, sets

_OBJECT_STORE_BYTES = 80 * 2**20


class Cluster:
    """Ray nodes that stand for pods: each a `ray start --block`, as KubeRay starts them."""

    def __init__(self) -> None:
        # Sockets lie below it, and their paths must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="gpt-run-", dir="/tmp"))
        self._nodes: list[subprocess.Popen[bytes]] = []
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._start(
            "--head", f"--port={port}", "--num-cpus=0", f"--temp-dir={self._folder}", "--include-dashboard=false"
        )

    def add_node(self, cpus: int) -> subprocess.Popen[bytes]:
        """One more node; it is there when its process is."""
        return self._start(f"--address={self.address}", f"--num-cpus={cpus}")

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        output = (self._folder / f"node-{len(self._nodes)}.txt").open("wb")
        node = subprocess.Popen(
            [*command, f"--object-store-memory={_OBJECT_STORE_BYTES}", *arguments],
            env=os.environ | ENVIRONMENT | {"RAY_HEALTH_CHECK_PERIOD_MS": "500"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output.close()
        self._nodes.append(node)
        return node

    def ranks(self) -> list[psutil.Process]:
        """Workers that train on any node, by rank."""
        found = []
        for node in self._nodes:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [one for one in psutil.Process(node.pid).children(recursive=True) if _is_rank(one)]
        return sorted(found, key=lambda one: one.name())

    def end(self) -> None:
        """Kill everything that came from it."""
        for node in self._nodes:
            with contextlib.suppress(psutil.NoSuchProcess):
                members = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
                for number in (signal.SIGSTOP, signal.SIGKILL):
                    for member in members:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            member.send_signal(number)
            node.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class RayTraining(Training):
    """A run on a cluster."""

    def __init__(self, cluster: Cluster, folder: Path, dataset: Path, changes: dict[str, Any]) -> None:
        super().__init__(folder, dataset, changes)
        self._cluster = cluster
        self.http_port = free_port()

    def ray(self, *overrides: str, workers: str = "1") -> Process:
        """`gpt-run ray run.yaml`, started."""
        options = ("--workers", workers, "--resize-seconds", "1", "--http", str(self.http_port))
        environment = {"RAY_ADDRESS": self._cluster.address}
        return self.start("ray", "run.yaml", *options, *sets(overrides), environment=environment)

    def status(self) -> dict[str, Any]:
        """The driver's /status."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/status", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def wait_for_steps(self, attempt: str, steps: int) -> None:
        """Wait until an attempt has logged so many steps."""
        deadline = time.monotonic() + WAIT_SECONDS
        while len(self.steps(attempt)) < steps:
            for process in self.processes:
                text = process.text
            assert time.monotonic() < deadline, f"no {steps} steps in {attempt}:\n{text}"
            time.sleep(0.02)


MakeRun = Callable[..., RayTraining]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set of Python sources with a validation split."""
    return prepare(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A head without room for workers, and a node with room for two."""
    made = Cluster()
    made.add_node(2)
    yield made
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


def _is_rank(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("gpt-run:rank")
    except psutil.NoSuchProcess:
        return False
