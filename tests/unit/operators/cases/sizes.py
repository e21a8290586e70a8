"""How many pods: bounds, wishes, room."""

from __future__ import annotations

from operators.api import JobKind
from tests.unit.operators.cases.case import GONE, KUEUE, Case
from tests.unit.operators.worlds import ago, capacity, follow, job, pending, pod, pods, run, world

SCALE = [
    Case("what a run wants it has", world(), conditions={"Ready": "True Watching", "Progressing": "True Training"}),
    Case(
        "kubectl scale of the TrainingRun",
        world(run=run({"replicas": 6})),
        ("scale 4->6 ScaleRequested",),
        says=("spec.replicas is 6",),
    ),
    Case(
        "a job scaled directly: the TrainingRun wins",
        world(run=run({"replicas": 4}), job=job(replicas=5)),
        ("scale 5->4 ScaleRequested",),
    ),
    Case("a job scaled directly within the bounds stays so", world(job=job(replicas=5))),
    Case("a job scaled over the bounds", world(job=job(replicas=9)), ("scale 9->8 OutOfBounds",), says=("2 to 8",)),
    Case("a job scaled under the bounds", world(job=job(replicas=1)), ("scale 1->2 OutOfBounds",)),
    Case("a job scaled to nothing", world(job=job(replicas=0)), ("scale 0->2 OutOfBounds",), says=("spec.suspend",)),
    Case(
        "over the bounds, and a wish",
        world(run=run({"replicas": 6}), job=job(replicas=99)),
        ("scale 99->6 OutOfBounds",),
    ),
    Case(
        "a wish over the bounds is capped",
        world(run=run({"replicas": 20})),
        ("scale 4->8 ScaleRequested",),
        conditions={"Ready": "True ReplicasCapped"},
        says=("8 it is",),
    ),
    Case(
        "a wish for none is no way to stop",
        world(run=run({"replicas": 0})),
        ("scale 4->2 ScaleRequested",),
        conditions={"Ready": "True ReplicasCapped"},
        says=("set spec.suspend",),
    ),
    Case(
        "a RayJob is scaled alike",
        world(run=run({"replicas": 6}), job=job(kind=JobKind.RAY_JOB)),
        ("scale 4->6 ScaleRequested",),
    ),
    Case(
        "a wish for a job in a queue", world(run=run({"replicas": 6}), job=job(**KUEUE)), ("scale 4->6 ScaleRequested",)
    ),
    Case("bounds hold for a job in a queue", world(job=job(replicas=9, **KUEUE)), ("scale 9->8 OutOfBounds",)),
    Case(
        "a suspended PyTorchJob takes a wish",
        world(run=run({"replicas": 6}), job=job(suspend=True), **GONE),
        ("scale 4->6 ScaleRequested",),
        "Suspended",
    ),
    Case(
        "a suspended RayJob does not",
        world(run=run({"replicas": 6}), job=job(suspend=True, kind=JobKind.RAY_JOB), **GONE),
        (),
        "Suspended",
    ),
    Case(
        "a suspended job out of bounds is left alone", world(job=job(suspend=True, replicas=9), **GONE), (), "Suspended"
    ),
    Case(
        "a finished job is never scaled",
        world(run=run({"replicas": 6}), job=job(finished=True), **GONE),
        (),
        "Succeeded",
    ),
]

ROOM = {"room": 3, "room_since": ago(100)}
CAPACITY = [
    Case(
        "room that has lasted",
        world(run=run(follow()), **ROOM),
        ("scale 4->7 RoomAppeared",),
        says=("room for 3 more pods",),
    ),
    Case(
        "no more than the bounds allow",
        world(run=run(follow()), room=30, room_since=ago(100)),
        ("scale 4->8 RoomAppeared",),
    ),
    Case("room that has not lasted", world(run=run(follow()), room=3, room_since=ago(50)), look_again=10),
    Case("room is not known", world(run=run(follow()))),
    Case("no room", world(run=run(follow()), room=0)),
    Case("room does not matter where it is not followed", world(**ROOM)),
    Case("a job in a queue never follows room", world(run=run(follow()), job=job(**KUEUE), **ROOM)),
    Case(
        "nor does one whose pods find no node: Kueue set the room aside, and takes it back",
        world(run=run(follow()), job=job(**KUEUE), pods=pods(p2=pending(2, 9000), p3=pending(3, 9000)), room=0),
    ),
    Case("no growth while a pod waits", world(run=run(follow()), pods=pods(p3=pending(3, 10)), **ROOM), look_again=890),
    Case("no growth before all pods are there", world(run=run(follow()), job=job(replicas=5), **ROOM)),
    Case("no growth while a pod goes", world(run=run(follow()), pods=pods(p3=pod(3, deleting=True)), **ROOM)),
    Case(
        "not so soon after the last change", world(run=run(follow(), {"capacity": capacity(50)}), **ROOM), look_again=10
    ),
    Case(
        "two growths in vain: four times the wait",
        world(run=run(follow(), {"growthFailures": 2, "capacity": capacity(230)}), room=3, room_since=ago(9999)),
        look_again=10,
    ),
    Case(
        "four times the wait is over",
        world(run=run(follow(), {"growthFailures": 2, "capacity": capacity(241)}), room=3, room_since=ago(9999)),
        ("scale 4->7 RoomAppeared",),
    ),
    Case(
        "the wait is an hour at most",
        world(run=run(follow(), {"growthFailures": 50, "capacity": capacity(3601)}), room=1, room_since=ago(9999)),
        ("scale 4->5 RoomAppeared",),
    ),
    Case(
        "a growth that was decided and not done",
        world(run=run(follow(), {"capacity": capacity(5, limit=7, grew=True, jobGeneration=5)})),
        ("scale 4->7 RoomAppeared",),
    ),
    Case(
        "a pod that waits for less than a node takes to come",
        world(run=run(follow()), pods=pods(p3=pending(3, 899))),
        look_again=1,
    ),
    Case(
        "pods that found no node",
        world(run=run(follow()), pods=pods(p2=pending(2, 950), p3=pending(3, 901))),
        ("scale 4->2 PodsPending",),
        says=("2 pods found no node for 900 s",),
    ),
    Case(
        "never under the bounds",
        world(run=run(follow()), pods=tuple(pending(index, 901) for index in range(4))),
        ("scale 4->2 PodsPending",),
        "Pending",
    ),
    Case(
        "at the lower bound pods wait on",
        world(run=run(follow()), job=job(replicas=2), pods=(pending(0, 9999), pending(1, 9999))),
        (),
        "Pending",
        {"Progressing": "True WaitingForRoom"},
    ),
    Case(
        "pods of an earlier size are no reason to shrink again",
        world(run=run(follow()), job=job(replicas=2), pods=pods(p2=pending(2, 950), p3=pending(3, 950))),
    ),
    Case("pods wait where room is not followed", world(pods=pods(p3=pending(3, 9999)))),
    Case(
        "a wish that finds no room",
        world(
            run=run({"replicas": 6, **follow()}), job=job(replicas=6), pods=(*pods(), pending(4, 901), pending(5, 901))
        ),
        ("scale 6->4 PodsPending",),
    ),
    Case(
        "a wish that found no room waits for it",
        world(run=run({"replicas": 6, **follow()}, {"capacity": capacity(50, limitOf=6)})),
        conditions={"Progressing": "True Training"},
        says=("6 workers are wanted, there is room for 4",),
    ),
    Case(
        "and takes it",
        world(run=run({"replicas": 6, **follow()}, {"capacity": capacity(90, limitOf=6)}), **ROOM),
        ("scale 4->6 RoomAppeared",),
    ),
    Case(
        "another wish is tried in full",
        world(run=run({"replicas": 7, **follow()}, {"capacity": capacity(90, limitOf=6)})),
        ("scale 4->7 ScaleRequested",),
    ),
    Case(
        "a wish below the room is met at once",
        world(run=run({"replicas": 3, **follow()}, {"capacity": capacity(90, limitOf=3, limit=5)})),
        ("scale 4->3 ScaleRequested",),
    ),
]
