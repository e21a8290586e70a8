"""Machines of the test cluster: a process with namespaces of its own for network, mounts, processes and host name.

The namespaces live as long as that process. SIGKILL to it is the power switch: the kernel kills all that runs on the
machine, containers included, and takes mounts and interfaces away. So nothing of a machine outlives it, whatever state
a test or a killed bring-up has left it in.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import psutil

from tests.cluster import layout

# Environment variable of a machine's first process: the folder of the machine.
MARK = "GPTRUN_TEST_MACHINE"
START_SECONDS = 10
END_SECONDS = 60
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")
# setns(2); Python has it from 3.12 on.
_CLONE_NEWNET = 0x40000000
T = TypeVar("T")
# The first process of a process namespace inherits orphans; ignoring SIGCHLD has the kernel reap them.
INIT = ("env", "--ignore-signal=CHLD", "sleep", "infinity")


class Machine:
    """One machine, running or not. Its first process carries its mark, so there is no record of it to be lost."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = layout.ADDRESSES[name]
        self.folder = layout.STATE / name
        self._init: psutil.Process | None = None

    def power_on(self) -> None:
        """Start it with nothing but a loopback interface."""
        self.folder.mkdir(parents=True, exist_ok=True)
        layout.LOGS.mkdir(parents=True, exist_ok=True)
        with (layout.LOGS / f"{self.name}.log").open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", "unshare", *NAMESPACES, "--fork", "--mount-proc", *INIT],
                env={**program_environment(), MARK: str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
        wait_until(lambda: self.pid is not None, START_SECONDS, f"{self.name} did not start (see {layout.LOGS})")
        self.run("hostname", self.name)
        self.run("ip", "link", "set", "lo", "up")
        self.run("mount", "--make-rshared", "/")

    def power_off(self) -> None:
        """Kill it and all that runs on it; no harm if it is off."""
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            # It goes last: the kernel ends all others of its namespace first.
            wait_until(lambda: self.pid is None, END_SECONDS, f"{self.name} did not end")

    @property
    def pid(self) -> int | None:
        """Its first process as the host numbers it; None when it is off."""
        if self._init is None or not _alive(self._init):
            self._init = next((process for process in psutil.process_iter() if self._is_init(process)), None)
        return None if self._init is None else self._init.pid

    def enter(self, *command: str) -> list[str]:
        """The command line that runs a command on it."""
        return ["nsenter", "--target", str(self.pid), *NAMESPACES, "--", *command]

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a command on it to its end; its output. Raises RuntimeError with what it complained about."""
        return run(*self.enter(*command), stdin=stdin)

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start a program on it that goes on when we end; its output goes to LOGS/<machine>-<name>.log."""
        layout.LOGS.mkdir(parents=True, exist_ok=True)
        with (layout.LOGS / f"{self.name}-{name}.log").open("ab") as log:
            subprocess.run(
                self.enter("setsid", "--fork", *map(str, command)),
                env=program_environment() | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )

    def do_in_network(self, make: Callable[[], T]) -> T:
        """What `make` gives, made in the machine's network by a thread of ours, as are all threads that it starts."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._make_in_network, make).result()

    def processes(self, program: str | Path) -> list[psutil.Process]:
        """What runs of this program on it, outside of containers."""
        inode = _inode(program)
        return [process for process in self._members() if _inode(f"/proc/{process.pid}/exe") == inode]

    def stop(self, program: str | Path, number: int = signal.SIGTERM) -> None:
        """End a program on it, by force if it takes longer than ten seconds."""
        members = self.processes(program)
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, alive = psutil.wait_procs(members, timeout=10)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=10)

    def _make_in_network(self, make: Callable[[], T]) -> T:
        with Path(f"/proc/{self.pid}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return make()

    def _is_init(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return process.name() == INIT[-2] and process.environ().get(MARK) == str(self.folder)
        return False

    def _members(self) -> Iterator[psutil.Process]:
        namespace = _inode(f"/proc/{self.pid}/ns/pid")
        for pid in psutil.pids():
            if namespace is not None and _inode(f"/proc/{pid}/ns/pid") == namespace:
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield psutil.Process(pid)


def connect(control: Machine, nodes: Sequence[Machine]) -> None:
    """Plug the nodes and the host into a switch on the control machine.

    No machine has a default route, so no packet leaves; the host gets one interface and keeps its firewall rules.
    """
    control.run("ip", "link", "add", "switch", "type", "bridge")
    control.run("ip", "address", "add", f"{control.address}/24", "dev", "switch")
    control.run("ip", "link", "set", "switch", "up")
    _route(control)
    for node in nodes:
        plug(control, node)
    host = layout.HOST_INTERFACE
    run("ip", "link", "add", host, "type", "veth", "peer", "host", "netns", str(control.pid))
    control.run("ip", "link", "set", "host", "master", "switch", "up")
    run("ip", "address", "add", f"{layout.HOST_ADDRESS}/24", "dev", host)
    run("ip", "link", "set", host, "up")


def plug(control: Machine, node: Machine) -> None:
    """Plug one node into the switch; also one that was off meanwhile."""
    # What is left of its cable goes a moment after the machine.
    with contextlib.suppress(RuntimeError):
        control.run("ip", "link", "delete", node.name)
    ends = ("eth0", "netns", str(node.pid), "type", "veth", "peer", node.name, "netns", str(control.pid))
    run("ip", "link", "add", *ends)
    control.run("ip", "link", "set", node.name, "master", "switch", "up")
    node.run("ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    node.run("ip", "link", "set", "eth0", "up")
    node.run("sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1")
    _route(node)


def run(*command: str | Path, stdin: str | None = None) -> str:
    """Run a command to its end; its output. Raises RuntimeError with what it complained about."""
    result = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        complaint = (result.stderr.strip() or result.stdout.strip() or "no output")[-2000:]
        raise RuntimeError(f"`{' '.join(map(str, command))}` ended with {result.returncode}: {complaint}")
    return result.stdout


def wait_until(condition: Callable[[], object], seconds: float, complaint: str) -> None:
    """Poll a condition; raises TimeoutError with the complaint."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{complaint} within {seconds:.0f} s")
        time.sleep(0.1)


def program_environment() -> dict[str, str]:
    """What programs on machines get: no proxy, credential or setting of whoever starts the cluster."""
    return {"PATH": SEARCH_PATH, "HOME": "/root"}


def _route(machine: Machine) -> None:
    """Tell a machine behind which other one each pod is."""
    for name, subnet in layout.POD_SUBNETS.items():
        if name != machine.name:
            machine.run("ip", "route", "add", subnet, "via", layout.ADDRESSES[name])


def _alive(process: psutil.Process) -> bool:
    """Whether it runs, and is not the exit code of one that did."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _inode(path: str | Path) -> tuple[int, int] | None:
    """What identifies the file behind a path or link; None where there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
