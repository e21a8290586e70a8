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
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.leases import Leases
from tests.faults.network import Network
from tests.faults.plan import EVALUATE_EVERY_STEPS, OF_DISK, OF_STORE, SAVE_EVERY_STEPS, STEPS, Fault, Kind, Plan, Store
from tests.faults.where import Alone, Mend, Miss
from tests.integration.clocks import skewed
from tests.integration.proxy import Proxy, Trouble
from tests.integration.servers import BUCKET, Server, free_port, s3_environment, s3_server
from tests.integration.training import Process, Training
from tests.integration.warm import Warm

TROUBLES = {
    Kind.STORE_DOWN: Trouble.DOWN,
    Kind.STORE_ERRORS: Trouble.ERRORS,
    Kind.STORE_SLOW: Trouble.SLOW,
    Kind.STORE_CUT: Trouble.CUT,
    Kind.STORE_LOST: Trouble.LOST,
    Kind.STORE_DENIED: Trouble.DENIED,
    Kind.STORE_STALE: Trouble.STALE,
}
_DISK_BYTES = 64 * 2**20
_GONE_SECONDS = 15.0
_PATIENCE_SECONDS = 3.0
_COMMITS_SECONDS = 20.0
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
        self._plan = plan
        self._stack = stack
        self._machines: dict[int, Process] = {}
        self._retired: list[Process] = []
        self._unclean: set[int] = set()
        """Machines that were killed once: what they leave in their temporary folder nobody tidies."""
        self._count = plan.machines
        self._coordinator: Process | None = None
        self._network = stack.enter_context(Network.of(place.number, plan.machines + 1)) if plan.namespaces else None
        # Of several machines: they find it in networks of their own.
        self._proxy = Proxy(place.server.port, "0.0.0.0" if plan.namespaces else "127.0.0.1")
        self._leases = Leases()
        stack.callback(self._proxy.close)
        stack.callback(self.release)
        self._name = folder.name
        self.flipped: str | None = None
        self._ports = (free_port(), free_port())
        self.training = StoredTraining(folder, self._data(), self._changes(folder), self._objects)
        stack.callback(self._end_all)
        if plan.kinds & OF_DISK:
            self._mount(folder / "runs")

    @property
    def _objects(self) -> Path | None:
        """The folder in which the server keeps this run's objects; None for a run on disk."""
        bucket = self._place.folder / "s3" / BUCKET
        return bucket / self._name / "runs" if self._plan.store is Store.S3 else None

    def _data(self) -> str:
        if not self._plan.data_from_store:
            return str(self._place.data)
        shutil.copytree(self._place.data, self._place.folder / "s3" / BUCKET / self._name / "data")
        return f"s3://{BUCKET}/{self._name}/data"

    def _changes(self, folder: Path) -> dict[str, Any]:
        store = f"s3://{BUCKET}/{self._name}/runs" if self._plan.store is Store.S3 else "./runs"
        return {
            **RUN,
            "model": {"dropout": self._plan.dropout},
            "data": {"cache": {"path": str(folder / "cache")}},
            "elastic": {**RUN["elastic"], "hang_seconds": self._hang_seconds},
            "checkpoint": {**RUN["checkpoint"], "store": store, "asynchronous": self._plan.asynchronous},
        }

    # What the driver asks for.

    def machines(self) -> list[Process]:
        return list(self._machines.values())

    def retired(self) -> list[Process]:
        return self._retired

    def start_missing(self) -> None:
        if self._plan.coordinator and self._coordinator is None:
            self._start_coordinator()
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
        return _APPLY[fault.kind](self, fault)

    def hold(self, text: str) -> None:
        if self._plan.store is Store.DISK:
            self._leases.take(path for path in self.training.run.glob("checkpoints/*/*") if text in path.name)
            return
        self._proxy.held = 0
        self._proxy.hold(text)

    def held(self) -> int:
        return self._leases.asked() if self._plan.store is Store.DISK else self._proxy.held

    def release(self) -> None:
        self._leases.release()
        self._proxy.release()

    def phase(self) -> str:
        port: int | None = self._ports[1]
        if not self._plan.coordinator:
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
            if index not in self._unclean:
                found += [f"temporary file of machine {index}: {path.name}" for path in self._tmp(index).iterdir()]
        if not self._unclean:
            run = self.training.run
            found += [f"{path.relative_to(run)}" for path in run.rglob("*.tmp*")]
        return found

    # Machines.

    def _tmp(self, index: int) -> Path:
        return self.training.folder / f"tmp-{index}"

    def _environment(self, index: int) -> dict[str, str]:
        self._tmp(index).mkdir(exist_ok=True)
        clock = self._plan.clocks_seconds[index] if index < len(self._plan.clocks_seconds) else 0
        host = self._network.hub if self._network is not None else "127.0.0.1"
        return {
            **s3_environment(self._proxy.port),
            "AWS_ENDPOINT_URL": f"http://{host}:{self._proxy.port}",
            "TMPDIR": str(self._tmp(index)),
            "CLOCK_SKEW_SECONDS": str(clock),
            "GPTRUN_LOG": "json",
            **({"GLOO_SOCKET_IFNAME": Network.INTERFACE} if self._network is not None else {}),
        }

    def _start_machine(self, index: int) -> Process:
        arguments = ["train", "run.yaml", "--nproc", str(self._plan.ranks_per_machine)]
        if self._plan.coordinator:
            smallest = self._plan.machines if self._plan.fixed else 1
            host = self._network.hub if self._network is not None else "127.0.0.1"
            # One more than planned may join an elastic run.
            largest = self._plan.machines if self._plan.fixed else self._plan.machines + 1
            arguments += ["--nnodes", f"{smallest}:{largest}", "--coordinator", f"{host}:{self._ports[0]}"]
        network = self._network.path(index) if self._network is not None else None
        return self._place.warm.start(self.training, *arguments, environment=self._environment(index), network=network)

    def _start_coordinator(self) -> None:
        self._coordinator = self._place.warm.start(
            self.training,
            *("coordinator", "--port", str(self._ports[0]), "--http", str(self._ports[1])),
            environment=_quiet(self.training.folder),
        )

    def _running(self, fault: Fault) -> tuple[int, Process]:
        alive = [(index, each) for index, each in self._machines.items() if each.popen.poll() is None]
        if not alive:
            raise Miss("no machine runs")
        return alive[fault.target % len(alive)]

    def _worker(self, fault: Fault) -> psutil.Process:
        workers = [worker for _, each in self._alive() for worker in _workers(each)]
        if not workers:
            raise Miss("no worker runs")
        return workers[fault.target % len(workers)]

    def _alive(self) -> list[tuple[int, Process]]:
        return [(index, each) for index, each in self._machines.items() if each.popen.poll() is None]

    def _coordinator_process(self) -> Process:
        if self._coordinator is None or self._coordinator.popen.poll() is not None:
            raise Miss("no coordinator runs")
        return self._coordinator

    def _end_all(self) -> None:
        for process in psutil.Process(self._place.warm.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.training.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(_GONE_SECONDS)
        if self._plan.store is Store.S3 or self._plan.data_from_store:
            shutil.rmtree(self._place.folder / "s3" / BUCKET / self._name, ignore_errors=True)

    def _mount(self, path: Path) -> None:
        path.mkdir()
        _call("mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "faults", str(path))
        self._stack.callback(_call, "umount", "--lazy", str(path))

    # Faults.

    def _signal_worker(self, fault: Fault, number: signal.Signals) -> None:
        worker = self._worker(fault)
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.send_signal(number)

    def _stop_worker(self, fault: Fault) -> Mend:
        worker = self._worker(fault)
        return stopped([worker])

    def _kill_launcher(self, fault: Fault) -> None:
        index, process = self._running(fault)
        self._unclean.add(index)
        process.popen.kill()

    def _stop_launcher(self, fault: Fault) -> Mend:
        index, process = self._running(fault)
        self._unclean.add(index)  # its forks may be killed meanwhile
        return stopped([psutil.Process(process.pid)])

    def _power_off(self, fault: Fault) -> None:
        index, process = self._running(fault)
        self._unclean.add(index)
        process.power_off()

    def _power_off_all(self) -> None:
        for index, process in self._alive():
            self._unclean.add(index)
            process.power_off()

    def _freeze(self, fault: Fault) -> Mend:
        index, process = self._running(fault)
        self._unclean.add(index)
        return stopped(process.tree())

    def _join(self, _: Fault) -> None:
        self._count = self._plan.machines + 1
        self.start_missing()

    def _end_coordinator(self, fault: Fault) -> Mend:
        process = self._coordinator_process()
        process.popen.kill() if fault.kind is Kind.KILL_COORDINATOR else process.popen.terminate()

        def replace() -> None:
            # One that was stopped in the middle of its end still has its ports; a supervisor loses patience with it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(_PATIENCE_SECONDS)
            process.popen.kill()
            process.popen.wait()
            self._start_coordinator()

        return replace

    def _stop_coordinator(self, _: Fault) -> Mend:
        return stopped([psutil.Process(self._coordinator_process().pid)])

    def _store_trouble(self, fault: Fault) -> Mend:
        self._proxy.trouble = TROUBLES[fault.kind]

        def mend() -> None:
            self._proxy.trouble = None

        return mend

    def _fill_disk(self, _: Fault) -> Mend:
        filler = self.training.folder / "runs" / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
            while True:
                stream.write(b"x" * 2**16)
        return lambda: filler.unlink(missing_ok=True)

    def _read_only(self, _: Fault) -> Mend:
        path = str(self.training.folder / "runs")
        for _try in range(200):  # refused while a file is open for writing
            if subprocess.run(["mount", "-o", "remount,ro", path], capture_output=True, check=False).returncode == 0:
                return lambda: _call("mount", "-o", f"remount,rw,size={_DISK_BYTES}", path)
            time.sleep(0.005)
        raise Miss("the disk is never without a file that is being written")

    def _flip_checkpoint(self, fault: Fault) -> None:
        patience_ends = time.monotonic() + _COMMITS_SECONDS
        while len(list(self.training.run.glob("checkpoints/*/COMMITTED.json"))) < 2:
            if not self._alive() or time.monotonic() > patience_ends:
                raise Miss("no older checkpoint to fall back to")
            time.sleep(0.05)
        self._power_off_all()
        self._leases.release()
        markers = sorted(self.training.run.glob("checkpoints/*/COMMITTED.json"))
        files = sorted(path for path in markers[-1].parent.iterdir() if path.name != "PINNED")
        flip_bit(files[(fault.target + self._plan.seed) % len(files)], self._plan.seed)
        self.flipped = markers[-1].parent.name

    def _flip_shard(self, fault: Fault) -> Mend:
        self._power_off_all()
        shutil.rmtree(self.training.folder / "cache", ignore_errors=True)  # machines that were not there before
        shards = sorted((self._place.folder / "s3" / BUCKET / self._name / "data" / "train").glob("*.arrow"))
        shard = shards[fault.target % len(shards)]
        where = flip_bit(shard, self._plan.seed)
        return lambda: flip_bit(shard, self._plan.seed, where) and None

    def _cut_network(self, fault: Fault) -> Mend:
        assert self._network is not None
        index, _ = self._running(fault)
        self._unclean.add(index)
        self._network.cut(index)
        return lambda: self._network.join(index) if self._network is not None else None


class StoredTraining(Training):
    """A run whose store may be the folder in which an S3 server keeps its objects."""

    def __init__(self, folder: Path, dataset: str, changes: Mapping[str, Any], objects: Path | None) -> None:
        super().__init__(folder, Path(folder), {**changes, "data": {**changes["data"], "train": dataset}})
        self._objects = objects

    @property
    def run(self) -> Path:
        return self._objects / "small" if self._objects is not None else super().run


def flip_bit(path: Path, seed: int, where: int | None = None) -> int:
    """Change one bit of a file in place; where that is."""
    data = bytearray(path.read_bytes())
    place = seed * 7919 % len(data) if where is None else where
    data[place] ^= 1
    path.write_bytes(data)
    return place


def stopped(processes: list[psutil.Process]) -> Mend:
    """SIGSTOP; what wakes them up again."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()

    def wake() -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    return wake


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


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


_APPLY: dict[Kind, Any] = {
    Kind.KILL_WORKER: lambda stage, fault: stage._signal_worker(fault, signal.SIGKILL),
    Kind.TERM_WORKER: lambda stage, fault: stage._signal_worker(fault, signal.SIGTERM),
    Kind.STOP_WORKER: LocalStage._stop_worker,
    Kind.KILL_LAUNCHER: LocalStage._kill_launcher,
    Kind.TERM_LAUNCHER: lambda stage, fault: stage._running(fault)[1].popen.terminate(),
    Kind.STOP_LAUNCHER: LocalStage._stop_launcher,
    Kind.POWER_OFF: LocalStage._power_off,
    Kind.FREEZE: LocalStage._freeze,
    Kind.TERM_ALL: lambda stage, fault: stage.terminate_all(),
    Kind.JOIN: LocalStage._join,
    Kind.KILL_COORDINATOR: LocalStage._end_coordinator,
    Kind.TERM_COORDINATOR: LocalStage._end_coordinator,
    Kind.STOP_COORDINATOR: LocalStage._stop_coordinator,
    Kind.DISK_FULL: LocalStage._fill_disk,
    Kind.DISK_READ_ONLY: LocalStage._read_only,
    Kind.FLIP_CHECKPOINT: LocalStage._flip_checkpoint,
    Kind.FLIP_SHARD: LocalStage._flip_shard,
    Kind.NETWORK_LOSS: LocalStage._cut_network,
    **dict.fromkeys(OF_STORE, LocalStage._store_trouble),
}
