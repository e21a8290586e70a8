"""Bring the test cluster up and take it away; see `python -m tests.cluster --help` and docs/decisions/test-cluster.md.

Bring-up begins by taking away whatever an earlier one left, so it does not matter how that one ended. Programs are
compiled while the trainer's image is built; with both in the cache it takes about a minute.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.cluster import addons, control_plane, layout, node, node_images
from tests.cluster.debian import install_packages
from tests.cluster.machines import Machine, connect, plug, wait_until
from tests.cluster.tools import KUBERNETES, SOURCES, ToolMissing, check_go, locked, say, tool

NODE_READY_SECONDS = 90
INTERFACE_SECONDS = 10
HOST_END = Path("/sys/class/net") / layout.HOST_INTERFACE
# Programs that a bring-up waits for; the others are compiled when somebody asks for them.
PROGRAMS = (*control_plane.PROGRAMS, "kubectl", "kubelet", "kube-proxy", "pause", *addons.OPERATORS)


def up() -> None:
    """Bring the cluster up; nothing to do if it is. Raises ToolMissing on a machine that cannot."""
    check_machine()
    with _lock():
        if is_up():
            _provide_trainer()
            say(f"the cluster is up: kubectl --kubeconfig {layout.KUBECONFIG}")
            return
        started = time.monotonic()
        install_packages()
        _take_away()
        try:
            _bring_up()
        except BaseException:
            say(f"bring-up failed; logs are in {layout.LOGS}")
            _power_off()
            raise
        (layout.STATE / "up").touch()
        say(f"up in {time.monotonic() - started:.0f} s: kubectl --kubeconfig {layout.KUBECONFIG}")


def down() -> None:
    """Take everything away but the caches. Raises RuntimeError if something stayed."""
    check_root()
    with _lock():
        _take_away()
        left = left_behind()
    if left:
        raise RuntimeError(f"the cluster left behind: {', '.join(left)}")


def power_on(name: str) -> None:
    """Switch a node on again that lost its power; it becomes Ready by itself."""
    found = machines()
    found[name].power_on()
    plug(found["control"], found[name])
    node.prepare(found[name])
    node.start_containerd(found[name])
    node.start_kubelet(found[name])


def repair() -> None:
    """Start again whatever a test has stopped or cordoned, and wait until it can be used."""
    found = machines()
    for name in control_plane.PROGRAMS:
        if not found["control"].processes(tool(name)):
            control_plane.start(found["control"], name)
    for name in layout.NODES:
        if found[name].pid is None:
            power_on(name)
        addons.kubectl("uncordon", name)
    wait_until(_nodes_ready, NODE_READY_SECONDS, f"nodes not Ready (see {layout.LOGS})")


def status() -> dict[str, str]:
    """Machine or program -> what it does."""
    found = {name: "on" if machine.pid else "off" for name, machine in machines().items()}
    control = machines()["control"]
    if control.pid:
        for name in control_plane.PROGRAMS:
            found[name] = "running" if control.processes(tool(name)) else "not running"
    return found


def is_up() -> bool:
    """Whether a bring-up has come to its end and all machines still run."""
    return (layout.STATE / "up").exists() and all(machine.pid for machine in machines().values())


def machines() -> dict[str, Machine]:
    """All machines by name, running or not."""
    return {name: Machine(name) for name in layout.ADDRESSES}


def left_behind() -> list[str]:
    """What this machine still has of a cluster, in words: files, mounts, processes, cgroups, interfaces."""
    state = str(layout.STATE)
    found = [state] if layout.STATE.exists() else []
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found += [f"mount {line.split()[1]}" for line in mounts if state in line or str(layout.CACHE) in line]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(state in argument for argument in process.cmdline()):
                found.append(f"process {process.pid}")
    found += [f"cgroup {folder}" for name in layout.NODES for folder in node.cgroups(name) if folder.parent.exists()]
    if HOST_END.exists():
        found.append(f"interface {layout.HOST_INTERFACE}")
    return found


def check_machine() -> None:
    """Raise ToolMissing if no cluster can be had here."""
    check_root()
    check_go("the cluster")


def check_root() -> None:
    """Raise ToolMissing where namespaces cannot be made."""
    if sys.platform != "linux":
        raise ToolMissing(f"the cluster needs Linux; this is {sys.platform}")
    if os.geteuid() != 0:
        raise ToolMissing("the cluster needs root: it makes namespaces, mounts and cgroups")


def _bring_up() -> None:
    all_machines = machines()
    control, nodes = all_machines["control"], [all_machines[name] for name in layout.NODES]
    for machine in all_machines.values():
        machine.power_on()
    connect(control, nodes)
    control_plane.write_certificates()
    with ThreadPoolExecutor() as pool:
        for one in nodes:
            node.prepare(one)
        list(pool.map(node.start_containerd, nodes))
        trainer = pool.submit(node_images.provide_project_image, nodes, "trainer")
        _compile(pool)
        pause = pool.submit(node_images.provide_program, nodes, "pause")
        control_plane.start_control_plane(control)
        pause.result()
        for one in nodes:
            node.start_kubelet(one)
        addons.start_addons(nodes)
        wait_until(_nodes_ready, NODE_READY_SECONDS, f"nodes not Ready (see {layout.LOGS})")
        addons.wait_for_addons()
        addons.describe(trainer.result())


def _compile(pool: ThreadPoolExecutor) -> None:
    """In two lanes, since downloads and linking leave cores idle; Kubernetes' programs share most of their packages."""
    kubernetes = [name for name in PROGRAMS if SOURCES[name].pins == KUBERNETES]
    others = [name for name in PROGRAMS if name not in kubernetes]
    list(pool.map(lambda names: [tool(name) for name in names], (kubernetes, others)))


def _provide_trainer() -> None:
    """Bring the nodes of a running cluster the trainer as its sources are now."""
    addons.describe(node_images.provide_project_image([machines()[name] for name in layout.NODES], "trainer"))


def _nodes_ready() -> bool:
    path = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    return addons.kubectl("get", "nodes", "--output", path).split() == ["True"] * len(layout.NODES)


def _take_away() -> None:
    """Kill the machines, then remove what they left outside of themselves."""
    _power_off()
    if layout.STATE.exists():
        shutil.rmtree(layout.STATE)
    node.remove_made_paths()


def _power_off() -> None:
    for machine in machines().values():
        machine.power_off()
    for name in layout.NODES:
        node.remove_cgroups(name)
    # The kernel takes it away with the network of the last process, which connections that were cut keep for minutes.
    subprocess.run(["ip", "link", "delete", layout.HOST_INTERFACE], capture_output=True, check=False)
    wait_until(lambda: not HOST_END.exists(), INTERFACE_SECONDS, f"{layout.HOST_INTERFACE} is still there")


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One process at a time changes the cluster."""
    layout.CACHE.mkdir(parents=True, exist_ok=True)
    with locked(layout.CACHE / "lock"):
        yield
