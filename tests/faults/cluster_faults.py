"""What breaks on the cluster, kind by kind: pods, processes in them, nodes, room, operators, and what all rely on."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import psutil

from tests.cluster import addons, bringup, control_plane, layout, node, platform
from tests.cluster.client import Namespace, program
from tests.cluster.test_preemption import important_pod
from tests.faults.local_faults import TROUBLES, stopped
from tests.faults.plan import OF_STORE, Fault, Kind
from tests.faults.pods import Pod, members
from tests.faults.where import Mend, Miss

if TYPE_CHECKING:
    from tests.faults.cluster_stage import ClusterStage

(SPARE_NODE,) = set(layout.NODES) - {layout.PLATFORM_NODE}
_PROGRAMS = {Kind.API_AWAY: "kube-apiserver", Kind.DNS_AWAY: "coredns", Kind.STORE_AWAY: "versitygw"}
_SCALES = 5
_DRAIN_SECONDS = 90


def apply(stage: ClusterStage, fault: Fault) -> Mend | None:
    """Break something; what mends it, None for what nobody has to mend. Miss if there is nothing to break."""
    mend: Mend | None = APPLY[fault.kind](stage, fault)
    return mend


def _pod(stage: ClusterStage, fault: Fault) -> Pod:
    component = "coordinator" if "COORDINATOR" in fault.kind.name else "worker"
    pods = stage.pods.of(component)
    if not pods:
        raise Miss(f"no {component} runs")
    return pods[fault.target % len(pods)]


def _first(stage: ClusterStage, fault: Fault) -> psutil.Process:
    """The launcher or coordinator: process 1 of its container."""
    pod = _pod(stage, fault)
    found = pod.first()
    if found is None:
        raise Miss(f"{pod.name} has ended")
    return found


def _rank(stage: ClusterStage, fault: Fault) -> psutil.Process:
    ranks = [rank for pod in stage.pods.of("worker") for rank in pod.ranks()]
    if not ranks:
        raise Miss("no worker runs")
    return ranks[fault.target % len(ranks)]


Find = Callable[["ClusterStage", Fault], psutil.Process]


def _signal(find: Find, number: signal.Signals) -> Callable[[ClusterStage, Fault], Mend | None]:
    def happen(stage: ClusterStage, fault: Fault) -> Mend | None:
        process = find(stage, fault)
        if number is signal.SIGSTOP:
            return stopped([process])
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess as gone:
            raise Miss("it has just ended") from gone
        return None

    return happen


def _freeze(stage: ClusterStage, fault: Fault) -> Mend:
    return stopped(_pod(stage, fault).members())


def _delete_pod(stage: ClusterStage, fault: Fault) -> None:
    force = ("--force", "--grace-period=0") if fault.kind.name.startswith("REMOVE_") else ()
    stage.namespace.kubectl("delete", "pod", _pod(stage, fault).name, "--wait=false", *force)


def _cut_pod(stage: ClusterStage, fault: Fault) -> Mend:
    """Drop what comes from the pod and what goes to it: nobody is told."""
    pod = _pod(stage, fault)
    machine = stage.place.machines[pod.node]
    rules = [("FORWARD", side, pod.address, "--jump", "DROP") for side in ("--source", "--destination")]
    for rule in rules:
        machine.run("iptables", "--wait", "--insert", *rule)

    def join() -> None:
        if machine.pid is not None:
            for rule in rules:
                machine.run("iptables", "--wait", "--delete", *rule)

    return join


def _lose_node(stage: ClusterStage, fault: Fault) -> Mend:
    node.power_off(stage.place.machines[SPARE_NODE])
    return lambda: stage.later(lambda: bringup.power_on(SPARE_NODE))


def _cut_node(stage: ClusterStage, fault: Fault) -> Mend:
    control = stage.place.machines["control"]
    control.run("ip", "link", "set", SPARE_NODE, "down")
    return lambda: control.run("ip", "link", "set", SPARE_NODE, "up") and None


def _drain(stage: ClusterStage, fault: Fault) -> Mend:
    if SPARE_NODE not in {pod.node for pod in stage.pods.of("worker")}:
        raise Miss("no worker on the node that may be drained")
    command = [str(program("kubectl")), "--kubeconfig", str(layout.KUBECONFIG), "drain", SPARE_NODE]
    options = ["--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={_DRAIN_SECONDS}s"]
    draining = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def uncordon() -> None:
        draining.terminate()
        draining.wait()
        stage.later(lambda: addons.kubectl("uncordon", SPARE_NODE), again=True)

    return uncordon


def _preempt(stage: ClusterStage, fault: Fault) -> Mend:
    stage.namespace.apply([important_pod(stage.place.image)])
    return lambda: stage.later(
        lambda: stage.namespace.kubectl("delete", "pod", "important", "--ignore-not-found"), again=True
    )


def _storm(stage: ClusterStage, fault: Fault) -> Mend:
    chance = random.Random(f"{stage.plan.seed} {fault.target}")

    def scale() -> None:
        for _ in range(_SCALES):
            stage.scale(chance.randint(1, stage.plan.machines + 1))
            time.sleep(fault.seconds / _SCALES)

    stage.later(scale, again=True)
    return lambda: stage.later(lambda: stage.scale(stage.plan.machines), again=True)


def _operators(stage: ClusterStage, fault: Fault) -> list[psutil.Process]:
    """Process 1 of our operator, or of the one that makes pods of jobs."""
    ours = fault.kind.name.endswith("_OPERATOR")
    namespace, selector = (
        (platform.NAME, "gptrun.io/component=operator")
        if ours
        else ("kubeflow", "control-plane=kubeflow-training-operator")
    )
    pods = Namespace(stage.place.cluster, namespace).objects("pods", selector)
    statuses: Iterable[Any] = (status for pod in pods for status in pod["status"].get("containerStatuses", ()))
    running = [
        status["containerID"].removeprefix("containerd://") for status in statuses if "running" in status["state"]
    ]
    found = [process for container in running for process in members(container)]
    if not found:
        raise Miss("no operator runs")
    return found


def _kill_operator(stage: ClusterStage, fault: Fault) -> None:
    for process in _operators(stage, fault):
        process.kill()


def _stop_operator(stage: ClusterStage, fault: Fault) -> Mend:
    return stopped(_operators(stage, fault))


def _take_away(stage: ClusterStage, fault: Fault) -> Mend:
    control, name = stage.place.machines["control"], _PROGRAMS[fault.kind]
    # By force: in good order an API server takes a minute to end.
    for process in control.processes(control_plane.tool(name)):
        process.kill()
    return lambda: control_plane.start(control, name)


def _store_trouble(stage: ClusterStage, fault: Fault) -> Mend:
    stage.proxy.trouble = TROUBLES[fault.kind]

    def mend() -> None:
        stage.proxy.trouble = None

    return mend


APPLY: dict[Kind, Callable[[Any, Fault], Any]] = {
    Kind.KILL_WORKER: _signal(_rank, signal.SIGKILL),
    Kind.TERM_WORKER: _signal(_rank, signal.SIGTERM),
    Kind.STOP_WORKER: _signal(_rank, signal.SIGSTOP),
    Kind.KILL_LAUNCHER: _signal(_first, signal.SIGKILL),
    Kind.TERM_LAUNCHER: _signal(_first, signal.SIGTERM),
    Kind.STOP_LAUNCHER: _signal(_first, signal.SIGSTOP),
    Kind.FREEZE: _freeze,
    Kind.TERM_ALL: lambda stage, fault: stage.terminate_all(),
    Kind.KILL_COORDINATOR: _signal(_first, signal.SIGKILL),
    Kind.TERM_COORDINATOR: _signal(_first, signal.SIGTERM),
    Kind.STOP_COORDINATOR: _signal(_first, signal.SIGSTOP),
    Kind.NETWORK_LOSS: _cut_pod,
    Kind.NODE_LOSS: _lose_node,
    Kind.COORDINATOR_NODE_LOSS: _lose_node,
    Kind.NODE_CUT: _cut_node,
    Kind.DRAIN: _drain,
    Kind.PREEMPT: _preempt,
    Kind.SCALE_STORM: _storm,
    **dict.fromkeys(
        (Kind.DELETE_WORKER, Kind.REMOVE_WORKER, Kind.DELETE_COORDINATOR, Kind.REMOVE_COORDINATOR), _delete_pod
    ),
    **dict.fromkeys((Kind.KILL_OPERATOR, Kind.KILL_JOB_CONTROLLER), _kill_operator),
    **dict.fromkeys((Kind.STOP_OPERATOR, Kind.STOP_JOB_CONTROLLER), _stop_operator),
    **dict.fromkeys(_PROGRAMS, _take_away),
    **dict.fromkeys(OF_STORE, _store_trouble),
}
