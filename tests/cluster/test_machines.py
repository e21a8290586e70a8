"""The machines of the test cluster by themselves: cut off from everything but each other, and gone without a trace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster import layout, machines
from tests.cluster.bringup import check_root
from tests.cluster.machines import Machine
from tests.cluster.node_images import chain_ids
from tests.cluster.tools import ToolMissing
from tests.integration.training import wait_until

SLEEP = "/usr/bin/sleep"
TAIL = "/usr/bin/tail"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine that is on, beside any cluster that runs."""
    try:
        check_root()
    except ToolMissing as error:
        pytest.skip(str(error))
    monkeypatch.setattr(layout, "STATE", tmp_path)
    monkeypatch.setattr(layout, "LOGS", tmp_path / "logs")
    made = Machine("node-a")
    made.power_on()
    yield made
    made.power_off()


def test_machine_has_its_own_name_network_and_processes(machine: Machine) -> None:
    assert machine.run("hostname").strip() == "node-a"
    interfaces = machine.run("ip", "-brief", "link").split("\n")
    assert [line.split()[0] for line in interfaces if " UP" in line or "UNKNOWN" in line] == ["lo"]
    assert machine.run("ip", "route") == ""
    assert machine.run("sh", "-c", "ls -d /proc/1") == "/proc/1\n"
    assert machine.run("readlink", "/proc/1/exe") == f"{Path(SLEEP).resolve()}\n"


def test_threads_of_ours_can_be_in_its_network(machine: Machine) -> None:
    network = Path("/proc/thread-self/ns/net")
    assert machine.do_in_network(network.readlink) == Path(f"/proc/{machine.pid}/ns/net").readlink()
    assert network.readlink() == Path("/proc/self/ns/net").readlink()


def test_programs_go_on_until_they_are_stopped(machine: Machine) -> None:
    machine.start("nap", ["tail", "--follow", "/dev/null"])
    wait_until(lambda: bool(machine.processes(TAIL)))
    (nap,) = machine.processes(TAIL)
    assert Path(f"/proc/{nap.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()

    machine.stop(TAIL)

    assert machine.processes(TAIL) == []
    assert machine.pid is not None


def test_power_off_ends_whatever_runs_and_removes_mounts(machine: Machine, tmp_path: Path) -> None:
    machine.run("mount", "-t", "tmpfs", "none", str(tmp_path))
    # A stubborn process, of the kind that a container in trouble leaves.
    machine.start("stubborn", ["sh", "-c", f"trap '' TERM INT HUP; {SLEEP} 1000"])
    # Beside the machine's own first process, which sleeps too.
    machines.wait_until(lambda: len(machine.processes(SLEEP)) == 2, 30, "the stubborn process did not start")
    inside = machine.processes("/bin/sh") + machine.processes(SLEEP)

    machine.power_off()

    assert machine.pid is None
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in inside)
    assert not os.path.ismount(tmp_path)


def test_a_machine_is_found_by_whoever_asks(machine: Machine) -> None:
    assert Machine("node-a").pid == machine.pid
    assert Machine("node-b").pid is None


def test_failed_command_says_what_and_why() -> None:
    with pytest.raises(RuntimeError, match=r"`ls /nowhere-at-all` ended with 2: .*No such file"):
        machines.run("ls", "/nowhere-at-all")


def test_chain_ids_of_the_specification() -> None:
    chains = chain_ids(["sha256:a", "sha256:b", "sha256:c"])
    assert chains[0] == "sha256:a"
    assert len(set(chains)) == 3
    assert chain_ids(["sha256:a", "sha256:b"]) == chains[:2]
