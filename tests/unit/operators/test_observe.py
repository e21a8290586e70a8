"""Caches and what is observed of them, from recorded objects."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from operators.api import JobKind, TrainingRun
from operators.backends import BACKENDS
from operators.caches import Caches
from operators.observe import Observer
from operators.observed import Coordinator, Observed
from operators.records import RunKey, node_record, pod_record, run_record
from tests.unit.operators.objects import NODE, POD, PYTORCHJOB, RAYJOB, RUN, changed, named

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY: RunKey = ("runs", "demo")
PYTORCH, RAY = BACKENDS[JobKind.PYTORCH_JOB], BACKENDS[JobKind.RAY_JOB]
DESK = {"gptrun.io/component": "coordinator", "app.kubernetes.io/instance": "demo"}


class World:
    """Caches with an observer."""

    def __init__(self, namespace: str = "") -> None:
        self.changed: list[tuple[RunKey, bool]] = []
        self.caches = Caches(lambda key, pods: self.changed.append((key, pods)))
        self.observer = Observer(
            self.caches,
            lambda _: True,
            namespace=namespace,
            coordinator_url="http://{name}.{namespace}:1/status",
            silent_after_seconds=25,
        )

    def observe(self, now: datetime = NOW, key: RunKey = KEY) -> Observed:
        run = self.caches.runs[key]
        assert isinstance(run, TrainingRun)
        return self.observer.observe(run, now)

    def news(self) -> set[tuple[RunKey, bool]]:
        """Of which runs there is news since the last look."""
        found = set(self.changed)
        self.changed.clear()
        return found


@pytest.fixture
def world() -> World:
    """One run with its job, pod and node."""
    return made_world()


def made_world(namespace: str = "") -> World:
    """One run with its job, pod and node, seen by an operator of one namespace or of all."""
    made = World(namespace)
    made.caches.put(run_record(RUN))
    made.caches.put(PYTORCH.record(PYTORCHJOB))
    made.caches.put(pod_record(POD))
    made.caches.put(node_record(NODE))
    made.news()
    return made


def test_what_belongs_together(world: World) -> None:
    found = world.observe()
    assert found.job is not None
    assert found.job.uid == PYTORCHJOB["metadata"]["uid"]
    assert [(pod.name, pod.resource_version) for pod in found.pods] == [("demo-worker-0", "260")]
    assert found.nodes["node-0"].ready
    assert (found.owner, found.job_elsewhere, found.coordinator, found.room) == (None, None, None, None)


def test_news_are_what_is_looked_at(world: World) -> None:
    world.caches.put(PYTORCH.record(changed(PYTORCHJOB, "metadata", "resourceVersion", to="500")))
    world.caches.put(pod_record(changed(POD, "metadata", "resourceVersion", to="500")))
    world.caches.put(node_record(changed(NODE, "metadata", "resourceVersion", to="500")))
    assert world.news() == set(), "only their versions are new"
    found = world.observe()
    assert found.job is not None
    assert {found.job.resource_version, *(pod.resource_version for pod in found.pods)} == {"500"}
    job = world.observe().job
    assert job is not None
    assert job.resource_version == "500", "which the next action is conditional upon"
    world.caches.put(pod_record(named(changed(POD, "status", "phase", to="Failed"), "demo-worker-0", "pod-0")))
    assert world.news() == {(KEY, True)}
    world.caches.put(node_record(named(changed(NODE, "status", "conditions", to=[]), "node-0", "node-uid")))
    assert world.news() == {(KEY, False)}


def test_a_written_status_is_kept_and_is_no_news(world: World) -> None:
    written = changed(changed(RUN, "status", to={"step": 5}), "metadata", "resourceVersion", to="500")
    world.caches.put(run_record(written))
    assert world.news() == set()
    run = world.observe().run
    assert (run.status.step, run.resource_version) == (5, "500")
    world.caches.put(run_record(changed(written, "spec", "suspend", to=True)))
    assert world.news() == {(KEY, False)}


def test_older_news_that_come_later_are_passed_over(world: World) -> None:
    newer = named(changed(PYTORCHJOB, "spec", "runPolicy", to={"suspend": True}), "demo", PYTORCHJOB["metadata"]["uid"])
    world.caches.put(PYTORCH.record(newer))
    world.caches.put(PYTORCH.record(PYTORCHJOB))
    job = world.observe().job
    assert job is not None
    assert job.suspend


def test_pods_of_a_job_before_this_one_are_not_its(world: World) -> None:
    again = named(PYTORCHJOB, "demo", "another-uid")
    world.caches.put(PYTORCH.record(again))
    assert world.observe().pods == ()


def test_a_job_of_the_same_name_elsewhere(world: World) -> None:
    elsewhere = changed(named(PYTORCHJOB, "demo", "there"), "metadata", "namespace", to="team")
    world.caches.put(PYTORCH.record(elsewhere))
    assert world.observe().job_elsewhere is None
    world.caches.remove(PYTORCH.record(PYTORCHJOB), NOW)
    found = world.observe()
    assert (found.job, found.job_elsewhere) == (None, "team")


def test_the_older_of_two_runs_has_the_say(world: World) -> None:
    second = changed(named(RUN, "second", "u2"), "metadata", "creationTimestamp", to="2026-11-22T11:30:00Z")
    world.caches.put(run_record(second))
    assert world.observe().owner is None
    assert world.observe(key=("runs", "second")).owner == "demo"
    world.news()
    world.caches.remove(run_record(RUN), NOW)
    assert (("runs", "second"), False) in world.news()
    assert world.observe(key=("runs", "second")).owner is None


def test_a_node_that_is_gone(world: World) -> None:
    world.caches.remove(node_record(NODE), NOW)
    assert world.news() == {(KEY, False)}
    node = world.observe(NOW + timedelta(seconds=9)).nodes["node-0"]
    assert (node.ready, node.not_ready_since) == (False, NOW)
    world.caches.put(node_record(NODE))
    assert world.observe().nodes["node-0"].ready


def test_pods_that_went_while_nobody_watched(world: World) -> None:
    assert world.caches.sweep({"pod-0"}, world.caches.pods.values(), NOW) == 0
    assert world.caches.sweep(set(), world.caches.pods.values(), NOW) == 1
    assert world.observe().pods == ()
    assert world.news() == {(KEY, True)}


def test_a_pod_that_we_deleted_is_known_to_be_going(world: World) -> None:
    world.caches.marked("pod-0")
    assert world.observe().pods[0].deleting


def test_pods_of_a_rayjob_are_its_clusters() -> None:
    world = World()
    reference = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "demo"}
    world.caches.put(run_record(changed(RUN, "spec", "jobRef", to=reference)))
    world.caches.put(RAY.record(RAYJOB))
    labels = {"ray.io/cluster": "demo-x7f2q", "ray.io/node-type": "worker"}
    pod = changed(changed(POD, "metadata", "ownerReferences", to=[]), "metadata", "labels", to=labels)
    world.caches.put(pod_record(pod))
    world.caches.put(pod_record(named(changed(pod, "metadata", "labels", "ray.io/cluster", to="demo-older"), "b", "b")))
    assert [found.name for found in world.observe().pods] == ["demo-worker-0"]


def coordinator(second: float, members: dict[str, float], pod_uid: str = "desk/0") -> Coordinator:
    return Coordinator(NOW + timedelta(seconds=second), pod_uid, "training", members)


def test_whom_to_ask(world: World) -> None:
    question = world.observer.question(KEY)
    assert question is not None
    assert (question.url, question.pod_uid) == ("http://demo.runs:1/status", "")
    desk = named(
        changed(changed(POD, "metadata", "labels", to=DESK), "metadata", "ownerReferences", to=[]), "d", "desk"
    )
    world.caches.put(pod_record(desk))
    question = world.observer.question(KEY)
    assert question is not None
    assert question.pod_uid == "desk/0"


def test_who_is_asked_last(world: World) -> None:
    """What was saved last is known by a coordinator that stays; one that has gone with its cluster knows nothing."""
    suspended = changed(PYTORCHJOB, "spec", "runPolicy", "suspend", to=True)
    world.caches.put(PYTORCH.record(changed(suspended, "metadata", "resourceVersion", to="900")))
    assert world.observer.question(KEY) is not None, "its pods are still there"
    world.caches.remove(pod_record(POD), NOW)
    assert world.observer.question(KEY) is None
    desk = named(
        changed(changed(POD, "metadata", "labels", to=DESK), "metadata", "ownerReferences", to=[]), "d", "desk"
    )
    world.caches.put(pod_record(desk))
    assert world.observer.question(KEY) is not None
    end = {"type": "Succeeded", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    over = changed(PYTORCHJOB, "status", "conditions", to=[end])
    world.caches.put(PYTORCH.record(changed(over, "metadata", "resourceVersion", to="901")))
    assert world.observer.question(KEY) is None, "long ago"
    end["lastTransitionTime"] = datetime.now(UTC).isoformat()
    world.caches.put(PYTORCH.record(changed(over, "metadata", "resourceVersion", to="902")))
    assert world.observer.question(KEY) is not None


def test_answers_grow_old(world: World) -> None:
    assert not world.observer.asked(KEY)
    world.observer.heard(KEY, None)
    assert world.observer.asked(KEY)
    world.observer.heard(KEY, coordinator(0, {"demo-worker-0": 0.1}))
    world.observer.heard(KEY, None)
    assert world.observe(NOW + timedelta(seconds=25)).coordinator is not None
    assert world.observe(NOW + timedelta(seconds=26)).coordinator is None


def silences(world: World) -> dict[str, float]:
    found = world.observe(NOW + timedelta(seconds=60)).silent_since
    return {uid: (since - NOW).total_seconds() for uid, since in found.items()}


def test_since_when_a_launcher_is_silent(world: World) -> None:
    world.observer.heard(KEY, coordinator(0, {}))
    assert silences(world) == {}, "a coordinator that is new has to be found first"
    world.observer.heard(KEY, coordinator(10, {}))
    world.observer.heard(KEY, coordinator(20, {}))
    assert silences(world) == {"pod-0": 10}
    world.observer.heard(KEY, coordinator(30, {"demo-worker-0": 0.2}))
    assert silences(world) == {}
    world.observer.heard(KEY, coordinator(40, {"demo-worker-0": 8.0}))
    assert silences(world) == {"pod-0": 32}, "it says itself when it heard it last"
    world.observer.heard(KEY, coordinator(50, {}, pod_uid="desk/1"))
    assert silences(world) == {}, "another one"


def test_nobody_is_silent_while_the_coordinator_is(world: World) -> None:
    for second in (0, 10, 60):
        world.observer.heard(KEY, coordinator(second, {}))
    assert silences(world) == {}


def capacity(**more: Any) -> dict[str, Any]:
    elastic = {"min": 1, "max": 4, "capacity": {"enabled": True}}
    return changed(changed(RUN, "spec", "elastic", to=elastic), "metadata", "resourceVersion", to="900") | more


def test_room(world: World) -> None:
    world.caches.put(run_record(capacity()))
    assert world.observe().room == 0, "its one pod fills the node"
    second = node_record(named(changed(NODE, "metadata", "labels", "more", to="yes"), "node-1", "n1"))
    world.caches.put(second)
    later = NOW + timedelta(seconds=5)
    found = world.observe(later)
    assert (found.room, found.room_since) == (1, later)
    assert world.observe(later + timedelta(seconds=30)).room_since == later
    waiting = named(changed(POD, "status", to={"phase": "Pending"}), "demo-worker-1", "pod-1")
    del waiting["spec"]["nodeName"]
    world.caches.put(pod_record(waiting))
    found = world.observe(later + timedelta(seconds=60))
    assert (found.room, found.room_since) == (0, None), "its own pod waits for that place"


def test_room_is_not_known_where_other_namespaces_are_not_seen(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Such an operator's caches hold what these do, but for pods of others that may be on the free node."""
    confined = made_world("runs")
    for one in (world, confined):
        one.caches.put(run_record(capacity()))
        one.caches.put(node_record(named(NODE, "node-1", "n1")))
    assert world.observe().room == 1
    assert "elastic.capacity" not in caplog.text
    for second in (0, 5, 10):
        found = confined.observe(NOW + timedelta(seconds=second))
        assert (found.room, found.room_since) == (None, None)
    (said,) = (record.getMessage() for record in caplog.records if "elastic.capacity" in record.getMessage())
    assert "confined to the namespace runs" in said


def test_room_is_kueues_matter_where_kueue_manages(world: World) -> None:
    world.caches.put(run_record(capacity()))
    queued = changed(PYTORCHJOB, "metadata", "labels", "kueue.x-k8s.io/queue-name", to="team")
    world.caches.put(PYTORCH.record(changed(queued, "metadata", "resourceVersion", to="900")))
    assert world.observe().room is None


def test_nothing_stays_of_what_is_gone(world: World) -> None:
    desk = named(
        changed(changed(POD, "metadata", "labels", to=DESK), "metadata", "ownerReferences", to=[]), "d", "desk"
    )
    for record in (pod_record(desk),):
        world.caches.put(record)
    for record in (pod_record(desk), pod_record(POD), PYTORCH.record(PYTORCHJOB), node_record(NODE), run_record(RUN)):
        world.caches.remove(record, NOW)
    caches = world.caches
    assert not any((caches.runs, caches.jobs, caches.pods, caches.nodes, caches.gone_since))
    assert not any((caches._workers, caches._desks, caches._on_node, caches._runs_of))


def test_only_its_own_kind_is_replaced(world: World) -> None:
    """An answer to a write says how the object is; one that has gone meanwhile does not come back by it."""
    record = PYTORCH.record(PYTORCHJOB)
    world.caches.remove(record, NOW)
    world.caches.put(replace(record, job=replace(record.job, resource_version="999")), known=True)
    assert world.observe().job is None
