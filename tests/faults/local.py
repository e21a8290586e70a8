"""This machine as the place of a campaign: launchers, coordinators and stores as processes of it.

Commands are forks of a process that has torch imported, so that a machine is there in a moment; its wall clock is
preloaded, so that each can have another. What needs root (disks that fill up, networks that are cut) is skipped by name
where there is none.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults import local_faults
from tests.faults.leases import Leases
from tests.faults.network import Network
from tests.faults.plan import EVALUATE_EVERY_STEPS, OF_DISK, SAVE_EVERY_STEPS, STEPS, Fault, Plan, Store
from tests.faults.where import Alone, Mend, Miss
from tests.integration.clocks import skewed
from tests.integration.proxy import Proxy
from tests.integration.servers import BUCKET, Server, free_port, s3_environment, s3_server
from tests.integration.training import Process, Training
from tests.integration.warm import Warm

_GONE_SECONDS = 15.0
_HANG_SECONDS = 30.0
_ALONE_SECONDS = 900.0
RUN: dict[str, Any] = {
    "steps": STEPS,
    "batch": {"sequences": 10, "micro_sequences": 2},
    # At a higher learning rate so small a model is unstable, and rounding grows.
    "optimizer": {"type": "adamw", "lr": 3e-4},
    "checkpoint": {"every_steps": SAVE_EVERY_STEPS, "keep": {"rolling": 1000}},
    "elastic": {"grace_seconds": 120.0, "budget": {"failures": 100}},
    "evaluate": {"every_steps": EVALUATE_EVERY_STEPS},
    "log": {"every_steps": 1},
}


class Local:
    """Warm process, S3 server and data of one stream of runs, which come one after another."""

    def __init__(self, folder: Path, number: int, data: Path) -> None:
        """number: of this stream, for names that the whole machine shares. data: a prepared set."""
        self.folder = folder
        self.number = number
        self.data = data
        self._stack = contextlib.ExitStack()
        clock = _wrong_clock()
        self.has_clocks = clock is not None
        self.warm = Warm(folder / "warm.txt", clock)
        self._stack.callback(self.warm.close)
        (folder / "s3").mkdir()
        self.server: Server = self._stack.enter_context(s3_server(folder / "s3"))
        self.is_root = os.geteuid() == 0

    def close(self) -> None:
        """End the processes."""
        self._stack.close()

    def cannot(self, plan: Plan) -> str | None:
        if not self.is_root and plan.kinds & OF_DISK:
            return "no root: a disk of its own cannot be mounted"
        if plan.namespaces and (reason := Network.cannot()):
            return reason
        if any(plan.clocks_seconds) and not self.has_clocks:
            return "no C compiler: a wrong clock cannot be made"
        return None

    @contextlib.contextmanager
    def stage(self, plan: Plan, folder: Path, alone: Alone) -> Iterator[LocalStage]:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            yield LocalStage(self, plan, folder, alone, stack)

    def alone(self, folder: Path, *, ranks: int, dropout: float) -> Alone:
        began = time.monotonic()
        training = Training(folder, self.data, {**RUN, "model": {"dropout": dropout}})
        process = self.warm.start(training, "train", "run.yaml", "--nproc", str(ranks), environment=_quiet(folder))
        if process.popen.wait(_ALONE_SECONDS) != 0:
            raise RuntimeError(f"the run left alone failed:\n{process.text}")
        return Alone(training.steps(), time.monotonic() - began)


class LocalStage:
    """One run on this machine."""

    patience_seconds = 30.0

    def __init__(self, place: Local, plan: Plan, folder: Path, alone: Alone, stack: contextlib.ExitStack) -> None:
        self._place = place
        # Less would take a worker of a machine for hung that is busier now than when the run was left alone.
        self._hang_seconds = max(_HANG_SECONDS, 3 * alone.seconds)
        self.plan = plan
        self._machines: dict[int, Process] = {}
        self._retired: list[Process] = []
        self.unclean: set[int] = set()
        """Machines that were killed once: what they leave in their temporary folder nobody tidies."""
        self._count = plan.machines
        self._coordinator: Process | None = None
        self.network = stack.enter_context(Network.of(place.number, plan.machines + 1)) if plan.namespaces else None
        # Of several machines: they find it in networks of their own.
        self.proxy = Proxy(place.server.port, "0.0.0.0" if plan.namespaces else "127.0.0.1")
        self.leases = Leases()
        stack.callback(self.proxy.close)
        stack.callback(self.release)
        self._name = folder.name
        self.flipped: str | None = None
        self._ports = (free_port(), free_port())
        stored = self.objects / "runs" if plan.store is Store.S3 else None
        self.training = StoredTraining(folder, self._data(), self._changes(folder), stored)
        stack.callback(self._end_all)
        if plan.kinds & OF_DISK:
            local_faults.mount(folder / "runs")
            stack.callback(local_faults.unmount, folder / "runs")

    @property
    def objects(self) -> Path:
        """The folder in which the server keeps what this run puts into the store."""
        return self._place.folder / "s3" / BUCKET / self._name

    def _data(self) -> str:
        if not self.plan.data_from_store:
            return str(self._place.data)
        shutil.copytree(self._place.data, self.objects / "data")
        return f"s3://{BUCKET}/{self._name}/data"

    def _changes(self, folder: Path) -> dict[str, Any]:
        store = f"s3://{BUCKET}/{self._name}/runs" if self.plan.store is Store.S3 else "./runs"
        return {
            **RUN,
            "model": {"dropout": self.plan.dropout},
            "data": {"cache": {"path": str(folder / "cache")}},
            "elastic": {**RUN["elastic"], "hang_seconds": self._hang_seconds},
            "checkpoint": {**RUN["checkpoint"], "store": store, "asynchronous": self.plan.asynchronous},
        }

    # What the driver asks for.

    def machines(self) -> list[Process]:
        return list(self._machines.values())

    def retired(self) -> list[Process]:
        return self._retired

    def start_missing(self) -> None:
        if self.plan.coordinator and self._coordinator is None:
            self.start_coordinator()
        for index in range(self._count):
            process = self._machines.get(index)
            if process is None or process.popen.poll() not in (None, 0):
                if process is not None:
                    self._retired.append(process)
                self._machines[index] = self._start_machine(index)

    def terminate_all(self) -> None:
        for process in self._machines.values():
            process.popen.terminate()

    def apply(self, fault: Fault) -> Mend | None:
        return local_faults.apply(self, fault)

    def hold(self, text: str) -> None:
        if self.plan.store is Store.DISK:
            self.leases.take(path for path in self.training.run.glob("checkpoints/*/*") if text in path.name)
            return
        self.proxy.held = 0
        self.proxy.hold(text)

    def held(self) -> int:
        return self.leases.asked() if self.plan.store is Store.DISK else self.proxy.held

    def release(self) -> None:
        self.leases.release()
        self.proxy.release()

    def phase(self) -> str:
        port: int | None = self._ports[1]
        if not self.plan.coordinator:
            found = re.findall(r"^status: http://127\.0\.0\.1:(\d+)/", self._machines[0].text, re.MULTILINE)
            port = int(found[-1]) if found else None
        if port is None:
            return ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=0.5) as answer:
                return str(json.load(answer).get("phase", ""))
        except (OSError, ValueError):
            return ""

    def left_behind(self) -> list[str]:
        if self._coordinator is not None and self._coordinator.popen.poll() is None:
            self._coordinator.popen.terminate()
        if any(process.popen.poll() is None for process in self._machines.values()):
            return []  # given up: what is left has been told already
        found = []
        deadline = time.monotonic() + _GONE_SECONDS
        while True:
            alive = psutil.Process(self._place.warm.pid).children(recursive=True)
            if not alive or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(f"process {process.name()} ({process.status()})")
                process.kill()
        for index in range(self._count):
            if index not in self.unclean:
                found += [f"temporary file of machine {index}: {path.name}" for path in self._tmp(index).iterdir()]
        if not self.unclean:
            run = self.training.run
            found += [f"{path.relative_to(run)}" for path in run.rglob("*.tmp*")]
        return found

    # What faults ask for.

    def add_machine(self) -> None:
        """One more than planned, or the same once more."""
        self._count = self.plan.machines + 1
        self.start_missing()

    def start_coordinator(self) -> None:
        """The first one, or another in its place."""
        self._coordinator = self._place.warm.start(
            self.training,
            *("coordinator", "--port", str(self._ports[0]), "--http", str(self._ports[1])),
            environment=_quiet(self.training.folder),
        )

    def running(self, fault: Fault) -> tuple[int, Process]:
        """The machine that a fault strikes. Miss if none runs."""
        alive = self.alive()
        if not alive:
            raise Miss("no machine runs")
        return alive[fault.target % len(alive)]

    def worker(self, fault: Fault) -> psutil.Process:
        """The worker that a fault strikes. Miss if none runs."""
        workers = [worker for _, each in self.alive() for worker in _workers(each)]
        if not workers:
            raise Miss("no worker runs")
        return workers[fault.target % len(workers)]

    def alive(self) -> list[tuple[int, Process]]:
        """Machines that run, with their numbers."""
        return [(index, each) for index, each in self._machines.items() if each.popen.poll() is None]

    def coordinator(self) -> Process:
        """Miss if it does not run."""
        if self._coordinator is None or self._coordinator.popen.poll() is not None:
            raise Miss("no coordinator runs")
        return self._coordinator

    # Machines.

    def _tmp(self, index: int) -> Path:
        return self.training.folder / f"tmp-{index}"

    def _environment(self, index: int) -> dict[str, str]:
        self._tmp(index).mkdir(exist_ok=True)
        clock = self.plan.clocks_seconds[index] if index < len(self.plan.clocks_seconds) else 0
        host = self.network.hub if self.network is not None else "127.0.0.1"
        return {
            **s3_environment(self.proxy.port),
            "AWS_ENDPOINT_URL": f"http://{host}:{self.proxy.port}",
            "TMPDIR": str(self._tmp(index)),
            "CLOCK_SKEW_SECONDS": str(clock),
            "GPTRUN_LOG": "json",
            **({"GLOO_SOCKET_IFNAME": Network.INTERFACE} if self.network is not None else {}),
        }

    def _start_machine(self, index: int) -> Process:
        arguments = ["train", "run.yaml", "--nproc", str(self.plan.ranks_per_machine)]
        if self.plan.coordinator:
            smallest = self.plan.machines if self.plan.fixed else 1
            host = self.network.hub if self.network is not None else "127.0.0.1"
            # One more than planned may join an elastic run.
            largest = self.plan.machines if self.plan.fixed else self.plan.machines + 1
            arguments += ["--nnodes", f"{smallest}:{largest}", "--coordinator", f"{host}:{self._ports[0]}"]
        network = self.network.path(index) if self.network is not None else None
        return self._place.warm.start(self.training, *arguments, environment=self._environment(index), network=network)

    def _end_all(self) -> None:
        for process in psutil.Process(self._place.warm.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.training.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(_GONE_SECONDS)
        if self.plan.store is Store.S3 or self.plan.data_from_store:
            shutil.rmtree(self.objects, ignore_errors=True)


class StoredTraining(Training):
    """A run whose store may be the folder in which an S3 server keeps its objects."""

    def __init__(self, folder: Path, dataset: str, changes: Mapping[str, Any], objects: Path | None) -> None:
        super().__init__(folder, Path(folder), {**changes, "data": {**changes["data"], "train": dataset}})
        self._objects = objects

    @property
    def run(self) -> Path:
        return self._objects / "small" if self._objects is not None else super().run


def _workers(process: Process) -> list[psutil.Process]:
    try:
        return process.workers()
    except psutil.NoSuchProcess:
        return []


def _wrong_clock() -> dict[str, str] | None:
    """The environment of a process whose clock can be set wrong; it is right to begin with."""
    try:
        return skewed(0)
    except pytest.skip.Exception:
        return None


def _quiet(folder: Path) -> dict[str, str]:
    (folder / "tmp").mkdir(exist_ok=True)
    return {"TMPDIR": str(folder / "tmp"), "CLOCK_SKEW_SECONDS": "0", "GPTRUN_LOG": "json"}
