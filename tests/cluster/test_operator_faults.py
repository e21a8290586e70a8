"""The operator and the cluster's own troubles: nodes, silent launchers, room, its own roll-out, no API server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime

from tests.cluster import control_plane, layout, node
from tests.cluster.client import Object
from tests.cluster.conftest import MakeRun
from tests.cluster.machines import Machine, wait_until
from tests.cluster.platform import (
    POLICY,
    RELEASE,
    Platform,
    patch,
    replicas,
    scale_unguarded,
    wait_for_event,
    wait_for_phase,
)
from tests.cluster.runs import HOST, LABEL, LONG, SAVED, Run, assert_nothing_lost
from tests.cluster.slots import SLOT, remove_slots, set_slots
from tests.cluster.store import pauses

(OTHER_NODE,) = set(layout.NODES) - {layout.PLATFORM_NODE}
MORE_STEPS = 5
API_OUTAGE_SECONDS = 60
PENDING_SECONDS, GROW_SECONDS = 20, 5
# Rather on two nodes than on one.
SPREAD = {
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "podAffinityTerm": {"topologyKey": HOST, "labelSelector": {"matchLabels": {LABEL: "worker"}}},
            }
        ]
    }
}


def test_pods_of_a_lost_node_come_up_elsewhere(
    platform: Platform, make_run: MakeRun, machines: Mapping[str, Machine]
) -> None:
    run = make_run(run=SAVED, nodePool={"affinity": SPREAD}, coordinator=stays(), policy=POLICY)
    run.wait_for_world(2)
    (gone,) = (pod["metadata"]["uid"] for pod in run.workers() if pod["spec"]["nodeName"] == OTHER_NODE)

    started = time.monotonic()
    node.power_off(machines[OTHER_NODE])
    run.wait_for_attempt(2, size=1)
    alone = time.monotonic() - started
    event = wait_for_event(run, "NodeLost")
    not_ready = since(run.namespace.get("node", OTHER_NODE), "Ready")
    share = (datetime.fromisoformat(event["firstTimestamp"]) - not_ready).total_seconds()
    run.wait_for_world(2)
    whole = time.monotonic() - started
    print(
        f"training went on with one worker after {alone:.0f} s and with two after {whole:.0f} s; the operator acted "
        f"{share:.0f} s after the node was NotReady"
    )
    assert gone not in {pod["metadata"]["uid"] for pod in run.workers()}
    assert {pod["spec"]["nodeName"] for pod in run.workers()} == {layout.PLATFORM_NODE}


def test_a_silent_launcher_is_replaced(platform: Platform, make_run: MakeRun, machines: Mapping[str, Machine]) -> None:
    run = make_run(run=SAVED, policy=POLICY)
    run.wait_for_world(2)
    run.wait_for_step(MORE_STEPS)
    victim = run.workers()[-1]
    machine = machines[victim["spec"]["nodeName"]]
    container = victim["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")

    started = time.monotonic()
    node.ctr(machine, "tasks", "pause", container)
    wait_for_event(run, "LauncherSilent")
    seconds = time.monotonic() - started
    allowed = POLICY["hang"]["seconds"]
    print(f"replaced {seconds:.1f} s after it fell silent; spec.hang.seconds is {allowed}")
    run.namespace.wait(
        "another pod in its place",
        120,
        lambda: victim["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in run.workers()},
    )
    run.wait_for_world(2)


def test_it_follows_the_room_that_there_is(platform: Platform, make_run: MakeRun) -> None:
    capacity = {"enabled": True, "pendingSeconds": PENDING_SECONDS, "growSeconds": GROW_SECONDS}
    namespace = platform.namespace
    set_slots(namespace, layout.PLATFORM_NODE, 2)
    try:
        run = make_run(
            workers=(3, 1, 3),
            run=LONG,
            gpu={"resource": SLOT, "perWorker": 1},
            coordinator=stays(),
            policy={**POLICY, "capacity": capacity},
        )
        run.wait_for_world(2)
        wait_for_event(run, "PodsPending")
        run.namespace.wait("2 workers wanted", 60, lambda: replicas(run) == 2)

        set_slots(namespace, layout.PLATFORM_NODE, 3)
        started = time.monotonic()
        wait_for_event(run, "RoomAppeared")
        print(f"scaled up {time.monotonic() - started:.1f} s after room came; capacity.growSeconds is {GROW_SECONDS}")
        run.wait_for_world(3)
        attempts = run.attempt()
        run.remove()
        assert_nothing_lost(run, attempts)
    finally:
        remove_slots(namespace, layout.PLATFORM_NODE)


def test_its_roll_out_pauses_control_for_seconds_only(platform: Platform, make_run: MakeRun) -> None:
    run = make_run(run=LONG, policy=POLICY)
    run.wait_for_world(2)
    deployment = f"deployment/{RELEASE}-operator"
    with platform.without_guards():
        scale_unguarded(run, 9)
        usual = [set_back(run) for _ in range(3)]
        platform.namespace.kubectl("rollout", "restart", deployment)
        meanwhile = []
        while not rolled_out(platform, deployment):
            meanwhile.append(set_back(run))
        meanwhile += [set_back(run) for _ in range(3)]
    print(f"set back within {max(usual):.1f} s before, {max(meanwhile):.1f} s during it ({len(meanwhile)} times)")
    wait_for_phase(run, "Running")
    # Once each time: every Event is of another version of the job.
    wait_for_event(run, "OutOfBounds")


def test_training_does_not_notice_that_the_api_server_is_away(
    platform: Platform, make_run: MakeRun, machines: Mapping[str, Machine]
) -> None:
    run = make_run(run=LONG, policy=POLICY)
    run.wait_for_world(2)
    run.wait_for_step(MORE_STEPS)
    before = run.told("step")
    workers = run.containers()
    control_plane.stop(machines["control"], "kube-apiserver")
    time.sleep(API_OUTAGE_SECONDS)
    control_plane.start(machines["control"], "kube-apiserver")
    wait_until(control_plane.api_ready, 60, "the API server is not back")

    after = run.told("step")
    records = run.printed()
    print(f"{after - before} steps meanwhile, longest time from one to the next {max(pauses(records)):.1f} s")
    assert after > before
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    assert run.containers() == workers
    started = time.monotonic()
    patch(run, {"replicas": 1})
    # Pods reach the API server again when kube-proxy has heard of its return, which alone may take a minute.
    run.namespace.wait("the job's new scale", 3 * API_OUTAGE_SECONDS, lambda: replicas(run) == 1)
    passed_on = time.monotonic() - started
    run.wait_for_world(1)
    print(f"passed on by the operator after {passed_on:.1f} s, a world of 1 after {time.monotonic() - started:.1f} s")


def stays() -> Object:
    """A coordinator on the node that tests leave alone."""
    return {"nodeSelector": {HOST: layout.PLATFORM_NODE}}


def since(found: Object | None, kind: str) -> datetime:
    """When a condition of a node became what it is."""
    assert found is not None
    (time_of,) = (one["lastTransitionTime"] for one in found["status"]["conditions"] if one["type"] == kind)
    return datetime.fromisoformat(time_of)


def set_back(run: Run) -> float:
    """Seconds until the operator has set back a number of workers that is out of bounds."""
    started = time.monotonic()
    run.scale(9)
    run.namespace.wait("scale within the bounds", 60, lambda: replicas(run) <= 3)
    return time.monotonic() - started


def rolled_out(platform: Platform, deployment: str) -> bool:
    """Whether the new pods are there and the old ones gone."""
    found = platform.namespace.get(*deployment.split("/"))
    assert found is not None
    seen = found["status"]
    wanted = found["spec"]["replicas"]
    counts = {seen.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return counts == {wanted} and seen["observedGeneration"] == found["metadata"]["generation"]
