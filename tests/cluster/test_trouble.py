"""What breaks by itself: the coordinator goes, a container is killed, a node loses its power or waits for the image."""

from __future__ import annotations

from collections.abc import Mapping

from tests.cluster import bringup, layout, node
from tests.cluster.client import Object
from tests.cluster.conftest import MakeRun
from tests.cluster.machines import Machine
from tests.cluster.runs import HOST, LABEL, LONG, SAVED, Run, assert_nothing_lost
from tests.cluster.store import pauses, resumed

MORE_STEPS = 5
(OTHER_NODE,) = set(layout.NODES) - {layout.PLATFORM_NODE}
# One worker to a node.
APART = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": HOST, "labelSelector": {"matchLabels": {LABEL: "worker"}}}
        ]
    }
}


def test_training_goes_on_while_the_coordinator_is_replaced(make_run: MakeRun) -> None:
    run = make_run(run=LONG)
    run.wait_for_world(2)
    run.wait_for_step(MORE_STEPS)
    workers, rounds = run.containers(), run.told("round")

    (coordinator,) = run.namespace.objects("pods", f"{LABEL}=coordinator")
    last_heard = run.told("step")
    run.namespace.kubectl("delete", "pod", coordinator["metadata"]["name"])
    heard_again = run.namespace.wait("word of the new coordinator", 120, lambda: run.status().get("step"))
    run.wait_for_world(2)
    run.wait_for_step(run.told("step") + MORE_STEPS)

    status = run.status()
    assert (status["round"], status["restarts"]) == (rounds, {})
    assert run.containers() == workers
    records = run.printed()
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    print(
        f"{heard_again - last_heard} steps without a coordinator's word, none lost; longest time from one step to the "
        f"next {max(pauses(records)):.1f} s"
    )
    run.remove()
    assert len(run.store.claims()) == 1


def test_a_killed_container_costs_no_saved_step(make_run: MakeRun, machines: Mapping[str, Machine]) -> None:
    run = make_run(run=SAVED)
    run.wait_for_world(2)
    saved = wait_for_save(run)
    run.wait_for_step(saved + MORE_STEPS)

    victim = first_rank(run)
    workers = run.containers()
    machine = machines[victim["spec"]["nodeName"]]
    node.kill_container(machine, victim["status"]["containerStatuses"][0]["containerID"])
    run.wait_for_attempt(2)
    run.wait_for_world(2)

    assert_only_unsaved_steps_lost(run, run.printed())
    name = victim["metadata"]["name"]
    uid, restarts = workers[name]
    assert run.containers() == {**workers, name: (uid, restarts + 1)}
    assert "Failed" not in run.conditions()


def test_the_rest_goes_on_without_a_lost_node_and_with_it_again(
    make_run: MakeRun, machines: Mapping[str, Machine]
) -> None:
    coordinator = {"nodeSelector": {HOST: layout.PLATFORM_NODE}}
    run = make_run(run=SAVED, nodePool={"affinity": APART}, coordinator=coordinator)
    run.wait_for_world(2)
    saved = wait_for_save(run)
    run.wait_for_step(saved + MORE_STEPS)
    (gone,) = (pod["metadata"] for pod in run.workers() if pod["spec"]["nodeName"] == OTHER_NODE)

    # Its log goes with the node: what it has printed until here is all that is known of its last steps.
    before = run.printed()
    node.power_off(machines[OTHER_NODE])
    run.wait_for_attempt(2, size=1)
    run.wait_for_step(run.told("step") + MORE_STEPS)
    records = {(record["attempt"], record["step"]): record for record in [*before, *run.printed()]}
    assert_only_unsaved_steps_lost(run, list(records.values()))

    def given_up() -> bool:
        pods = {pod["metadata"]["uid"]: pod["metadata"] for pod in run.workers()}
        return "deletionTimestamp" in pods.get(gone["uid"], {})

    run.namespace.wait(f"{gone['name']} to be given up", 180, given_up)
    assert run.status()["world_size"] == 1

    bringup.power_on(OTHER_NODE)
    run.wait_for_world(2)
    assert gone["uid"] not in {uid for uid, _ in run.containers().values()}
    assert "Failed" not in run.conditions()


def test_a_node_that_is_slow_to_pull_the_image_joins_when_it_has_it(
    make_run: MakeRun, description: dict[str, str], machines: Mapping[str, Machine]
) -> None:
    fast, slow = machines[layout.PLATFORM_NODE], machines[OTHER_NODE]
    image = description["image"]
    # There is no registry: a pull is under way for as long as only one node knows the image by this name.
    late = f"{image.rpartition(':')[0]}:late"
    node.ctr(fast, "images", "tag", image, late)
    try:
        here = {HOST: fast.name}
        run = make_run(
            run=LONG,
            image={"tag": "late"},
            nodePool={"affinity": APART},
            coordinator={"nodeSelector": here},
            jobs={"nodeSelector": here},
        )
        run.wait_for_world(1)
        run.wait_for_step(MORE_STEPS)
        (running,) = run.running_workers()

        node.ctr(slow, "images", "tag", image, late)
        run.wait_for_world(2)
        assert running in run.running_workers()
        attempts = run.attempt()
        run.remove()
        assert_nothing_lost(run, attempts)
    finally:
        for machine in (fast, slow):
            node.ctr(machine, "images", "delete", late)


def first_rank(run: Run) -> Object:
    """The pod whose workers begin with rank 0: it has printed figures."""
    (found,) = [pod for pod in run.workers() if '"loss"' in run.namespace.log(pod["metadata"]["name"], "--tail=50")]
    return found


def wait_for_save(run: Run) -> int:
    """Wait for the first checkpoint; its step."""
    saves = run.namespace.wait("the first checkpoint", 120, run.store.checkpoints)
    return int(saves[0]["step"])


def assert_only_unsaved_steps_lost(run: Run, records: list[Object]) -> None:
    """The second attempt began at the newest checkpoint of the first; its end was a loss, not a failure."""
    claim = run.store.claims()[1]
    assert claim["previous_end"]["reason"] == "NodeLost"
    assert claim["previous_end"]["counted"] is False
    newest = [committed for committed in run.store.checkpoints() if committed["attempt"] == 1][-1]
    assert claim["base_checkpoint"] == f"step-{newest['step']:08}-a0001"
    first = [record for record in records if record["attempt"] == "a0001"]
    second = [record for record in records if record["attempt"] == "a0002"]
    assert second[0]["step"] == newest["step"] + 1
    pause, again = resumed(first, second)
    print(f"{pause:.1f} s without a step, {again} steps done again since the checkpoint of step {newest['step']}")
