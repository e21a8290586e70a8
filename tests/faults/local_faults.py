"""What breaks on this machine, kind by kind: workers, launchers, coordinators, stores, disks, networks, files."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.faults.plan import OF_STORE, Fault, Kind
from tests.faults.where import Mend, Miss
from tests.integration.proxy import Trouble

if TYPE_CHECKING:
    from tests.faults.local import LocalStage
    from tests.integration.training import Process

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
_PATIENCE_SECONDS = 3.0
_COMMITS_SECONDS = 20.0


def apply(stage: LocalStage, fault: Fault) -> Mend | None:
    """Break something; what mends it, None for what nobody has to mend. Miss if there is nothing to break."""
    return APPLY[fault.kind](stage, fault)


def _signal_worker(stage: LocalStage, fault: Fault, number: signal.Signals) -> None:
    worker = stage.worker(fault)
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.send_signal(number)


def _stop_worker(stage: LocalStage, fault: Fault) -> Mend:
    worker = stage.worker(fault)
    return stopped([worker])


def _struck(stage: LocalStage, fault: Fault) -> Process:
    """The launcher of the machine that a fault strikes, of which nothing is tidied from then on."""
    index, process = stage.running(fault)
    stage.unclean.add(index)
    return process


def _kill_launcher(stage: LocalStage, fault: Fault) -> None:
    _struck(stage, fault).popen.kill()


def _stop_launcher(stage: LocalStage, fault: Fault) -> Mend:
    # Its forks may be killed meanwhile.
    return stopped([psutil.Process(_struck(stage, fault).pid)])


def _power_off(stage: LocalStage, fault: Fault) -> None:
    _struck(stage, fault).power_off()


def _power_off_all(stage: LocalStage) -> None:
    for index, process in stage.alive():
        stage.unclean.add(index)
        process.power_off()


def _freeze(stage: LocalStage, fault: Fault) -> Mend:
    return stopped(_struck(stage, fault).tree())


def _join(stage: LocalStage, _: Fault) -> None:
    stage.add_machine()


def _end_coordinator(stage: LocalStage, fault: Fault) -> Mend:
    process = stage.coordinator()
    process.popen.kill() if fault.kind is Kind.KILL_COORDINATOR else process.popen.terminate()

    def replace() -> None:
        # One that was stopped in the middle of its end still has its ports; a supervisor loses patience with it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.popen.wait(_PATIENCE_SECONDS)
        process.popen.kill()
        process.popen.wait()
        stage.start_coordinator()

    return replace


def _stop_coordinator(stage: LocalStage, _: Fault) -> Mend:
    return stopped([psutil.Process(stage.coordinator().pid)])


def _store_trouble(stage: LocalStage, fault: Fault) -> Mend:
    stage.proxy.trouble = TROUBLES[fault.kind]

    def mend() -> None:
        stage.proxy.trouble = None

    return mend


def _fill_disk(stage: LocalStage, _: Fault) -> Mend:
    filler = stage.training.folder / "runs" / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 2**16)
    return lambda: filler.unlink(missing_ok=True)


def _read_only(stage: LocalStage, _: Fault) -> Mend:
    path = str(stage.training.folder / "runs")
    for _try in range(200):  # refused while a file is open for writing
        if subprocess.run(["mount", "-o", "remount,ro", path], capture_output=True, check=False).returncode == 0:
            return lambda: _call("mount", "-o", f"remount,rw,size={_DISK_BYTES}", path)
        time.sleep(0.005)
    raise Miss("the disk is never without a file that is being written")


def _flip_checkpoint(stage: LocalStage, fault: Fault) -> None:
    patience_ends = time.monotonic() + _COMMITS_SECONDS
    while len(list(stage.training.run.glob("checkpoints/*/COMMITTED.json"))) < 2:
        if not stage.alive() or time.monotonic() > patience_ends:
            raise Miss("no older checkpoint to fall back to")
        time.sleep(0.05)
    _power_off_all(stage)
    stage.leases.release()
    markers = sorted(stage.training.run.glob("checkpoints/*/COMMITTED.json"))
    files = sorted(path for path in markers[-1].parent.iterdir() if path.name != "PINNED")
    flip_bit(files[(fault.target + stage.plan.seed) % len(files)], stage.plan.seed)
    stage.flipped = markers[-1].parent.name


def _flip_shard(stage: LocalStage, fault: Fault) -> Mend:
    _power_off_all(stage)
    shutil.rmtree(stage.training.folder / "cache", ignore_errors=True)  # machines that were not there before
    shards = sorted((stage.objects / "data" / "train").glob("*.arrow"))
    shard = shards[fault.target % len(shards)]
    where = flip_bit(shard, stage.plan.seed)
    return lambda: flip_bit(shard, stage.plan.seed, where) and None


def _cut_network(stage: LocalStage, fault: Fault) -> Mend:
    network = stage.network
    assert network is not None
    index, _ = stage.running(fault)
    stage.unclean.add(index)
    network.cut(index)
    return lambda: network.join(index)


def mount(path: Path) -> None:
    """A new folder that is a disk of its own, soon full."""
    path.mkdir()
    _call("mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "faults", str(path))


def unmount(path: Path) -> None:
    """Take it away, whoever looks at it."""
    _call("umount", "--lazy", str(path))


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


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


APPLY: dict[Kind, Callable[[LocalStage, Fault], Mend | None]] = {
    Kind.KILL_WORKER: lambda stage, fault: _signal_worker(stage, fault, signal.SIGKILL),
    Kind.TERM_WORKER: lambda stage, fault: _signal_worker(stage, fault, signal.SIGTERM),
    Kind.STOP_WORKER: _stop_worker,
    Kind.KILL_LAUNCHER: _kill_launcher,
    Kind.TERM_LAUNCHER: lambda stage, fault: stage.running(fault)[1].popen.terminate(),
    Kind.STOP_LAUNCHER: _stop_launcher,
    Kind.POWER_OFF: _power_off,
    Kind.FREEZE: _freeze,
    Kind.TERM_ALL: lambda stage, fault: stage.terminate_all(),
    Kind.JOIN: _join,
    Kind.KILL_COORDINATOR: _end_coordinator,
    Kind.TERM_COORDINATOR: _end_coordinator,
    Kind.STOP_COORDINATOR: _stop_coordinator,
    Kind.DISK_FULL: _fill_disk,
    Kind.DISK_READ_ONLY: _read_only,
    Kind.FLIP_CHECKPOINT: _flip_checkpoint,
    Kind.FLIP_SHARD: _flip_shard,
    Kind.NETWORK_LOSS: _cut_network,
    **dict.fromkeys(OF_STORE, _store_trouble),
}
