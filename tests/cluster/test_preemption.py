"""Pods that are told to go, by a pod of higher priority, a suspension, a drain: they save first, no step is lost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping

import pytest

from tests.cluster import layout
from tests.cluster.addons import PRIORITIES, priority
from tests.cluster.client import Namespace, Object, program
from tests.cluster.conftest import MakeRun
from tests.cluster.machines import Machine
from tests.cluster.runs import HOST, LONG, Run, assert_nothing_lost
from tests.cluster.slots import SLOT, remove_slots, set_slots

SLOTS = 2
MORE_STEPS = 5
COMMAND_SECONDS = 300


@pytest.fixture
def slots(namespace: Namespace) -> Iterator[None]:
    """A node with as many slots as a run of two workers takes, and priority classes."""
    for name, value in PRIORITIES.items():
        if namespace.get("priorityclass", name) is None:
            namespace.apply([priority(name, value)])
    node = namespace.objects("nodes")[-1]["metadata"]["name"]
    set_slots(namespace, node, SLOTS)
    yield
    remove_slots(namespace, node)


@pytest.mark.usefixtures("slots")
def test_a_pod_of_higher_priority_takes_the_room(make_run: MakeRun, description: dict[str, str]) -> None:
    gpu = {"resource": SLOT, "perWorker": 1}
    run = make_run(run=LONG, gpu=gpu, nodePool={"priorityClassName": "gpt-run-low"})
    run.wait_for_world(2)
    run.wait_for_step(MORE_STEPS)
    workers = run.containers()

    started = time.monotonic()
    run.namespace.apply([important_pod(description["image"])])
    run.namespace.wait("room for the important pod", 180, lambda: pod_phase(run, "important") == "Running")
    print(f"room for the important pod after {time.monotonic() - started:.1f} s")
    newest = run.store.checkpoints()[-1]
    assert newest["step"] == run.store.records("a0001")[-1]["step"]
    run.namespace.wait(
        "new workers without room", 60, lambda: [pod_phase(run, name) for name in workers] == ["Pending"] * 2
    )
    assert run.told("phase") == "waiting"

    run.namespace.kubectl("delete", "pod", "important")
    run.wait_for_attempt(2)
    run.wait_for_world(2)
    attempts = run.attempt()
    run.remove()
    assert_nothing_lost(run, attempts)


def test_suspended_runs_go_on_at_the_same_step(make_run: MakeRun) -> None:
    run = make_run(run=LONG, lifecycle={"suspend": True})
    run.namespace.wait("suspension", 60, lambda: "Suspended" in run.conditions())
    assert run.workers() == []

    run.upgrade("--set", "lifecycle.suspend=false")
    run.wait_for_world(2)
    run.wait_for_step(MORE_STEPS)
    job(run, "suspend", "--wait")
    assert run.workers() == []

    job(run, "resume", "--wait")
    run.wait_for_world(2)
    run.wait_for_step(run.told("step") + MORE_STEPS)
    run.upgrade("--set", "lifecycle.suspend=true")
    run.wait_for_no_workers()
    assert "Suspended" in run.conditions()
    assert run.job()["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] == 2
    newest = run.store.checkpoints()[-1]
    assert newest["step"] == run.store.records()[-1]["step"]
    assert_nothing_lost(run, attempts=len(run.store.claims()))


def test_a_drained_node_loses_one_worker_after_the_other(make_run: MakeRun, machines: Mapping[str, Machine]) -> None:
    stays = layout.PLATFORM_NODE
    drained = next(name for name in machines if name in layout.NODES and name != stays)
    here = {"matchExpressions": [{"key": HOST, "operator": "In", "values": [drained]}]}
    affinity = {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": here}]}
    }
    run = make_run(run=LONG, nodePool={"affinity": affinity}, coordinator={"nodeSelector": {HOST: stays}})
    run.wait_for_world(2)
    run.wait_for_step(MORE_STEPS)
    assert {pod["spec"]["nodeName"] for pod in run.workers()} == {drained}

    command = [str(program("kubectl")), "--kubeconfig", str(run.namespace.cluster.kubeconfig), "drain", drained]
    options = ["--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={COMMAND_SECONDS}s"]
    started = time.monotonic()
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    print(f"{drained} drained in {time.monotonic() - started:.1f} s")
    assert result.returncode == 0, result.stderr
    # The budget made it wait with the second worker for the first one's successor.
    assert "would violate the pod's disruption budget" in result.stderr

    run.wait_for_world(2)
    assert {pod["spec"]["nodeName"] for pod in run.workers()} == {stays}
    attempts = run.attempt()
    run.remove()
    assert_nothing_lost(run, attempts)


def important_pod(image: str) -> Object:
    """A pod that needs all slots and outranks the run."""
    limits = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "important",
        "image": image,
        "command": ["sleep", "infinity"],
        "securityContext": limits,
        "resources": {"limits": {SLOT: SLOTS}},
    }
    spec = {
        "priorityClassName": "gpt-run-high",
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "important"}, "spec": spec}


def pod_phase(run: Run, name: str) -> str | None:
    """A pod's phase; None if it is not there, or is told to go."""
    pod = run.namespace.get("pod", name)
    return None if pod is None or "deletionTimestamp" in pod["metadata"] else pod["status"]["phase"]


def job(run: Run, change: str, *options: str) -> None:
    """`gpt-run job suspend` or `resume`."""
    command, environment = run.namespace.gpt_run("job", change, run.name, *options)
    started = time.monotonic()
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    print(f"gpt-run job {change} {' '.join(options)}: {time.monotonic() - started:.1f} s")
