"""Lost nodes, silent launchers, phases, and input that is wrong."""

from __future__ import annotations

from tests.unit.operators.cases.case import GONE, HELD, Case
from tests.unit.operators.worlds import ago, coordinator, job, mark, nodes, pending, pod, pods, run, world

HANG = {"hang": {"seconds": 60}}
ALONE = {f"uid-{index}": ago(100) for index in range(4)}

PODS = [
    Case(
        "a node is lost, and its launcher with it",
        world(nodes=nodes(n2=6), coordinator=coordinator(2)),
        ("force-delete demo-worker-2 NodeLost",),
        conditions={"Healthy": "False NodeLost"},
        says=("node node-2 has not been ready for 6 s",),
    ),
    Case(
        "its pod is Terminating for ever",
        world(nodes=nodes(n2=6), pods=pods(p2=pod(2, deleting=True)), coordinator=coordinator(2)),
        ("force-delete demo-worker-2 NodeLost",),
    ),
    Case("its launcher is heard: the node only looks lost", world(nodes=nodes(n2=600))),
    Case(
        "its launcher was heard too long ago",
        world(nodes=nodes(n2=60), coordinator=coordinator(members={"demo-worker-2": 30.0, "demo-worker-0": 0.1})),
        ("force-delete demo-worker-2 NodeLost",),
    ),
    Case(
        "an answer from before the loss says nothing",
        world(nodes=nodes(n2=6), coordinator=coordinator(2, asked_at=ago(7))),
    ),
    Case("a node lost just now", world(nodes=nodes(n2=2), coordinator=coordinator(2)), look_again=3),
    Case(
        "no coordinator: only what goes anyway",
        world(nodes=nodes(n2=600, n1=600), pods=pods(p2=pod(2, deleting=True)), coordinator=None),
        ("force-delete demo-worker-2 NodeLost",),
    ),
    Case(
        "never by force while the node is ready", world(pods=pods(p2=pod(2, deleting=True)), coordinator=coordinator(2))
    ),
    Case(
        "never where nothing is known of the node",
        world(nodes={}, pods=pods(p2=pod(2, deleting=True)), coordinator=coordinator(2)),
    ),
    Case("switched off", world(run=run({"nodeLoss": {"seconds": 0}}), nodes=nodes(n2=600), coordinator=coordinator(2))),
    Case(
        "a pod that failed there is in nobody's way",
        world(nodes=nodes(n2=60), pods=pods(p2=pod(2, phase="Failed", running_since=None)), coordinator=coordinator(2)),
    ),
    Case(
        "a suspended job's pods on a lost node",
        world(
            run=run({"suspend": True}, HELD),
            job=job(suspend=True, generation=6, mark=mark()),
            pods=(pod(2, deleting=True),),
            nodes=nodes(n2=60),
            coordinator=coordinator(0),
        ),
        ("force-delete demo-worker-2 NodeLost",),
        "Draining",
    ),
    Case(
        "a finished job's pods on a lost node",
        world(job=job(finished=True), pods=(pod(2, deleting=True),), nodes=nodes(n2=60), coordinator=coordinator(0)),
        ("force-delete demo-worker-2 NodeLost",),
        "Succeeded",
    ),
    Case(
        "a silent launcher",
        world(run=run(HANG), coordinator=coordinator(3), silent_since=ALONE),
        ("delete demo-worker-3 LauncherSilent",),
        conditions={"Healthy": "False LauncherSilent"},
        says=("for 100 s",),
    ),
    Case("silent, but not for long enough", world(coordinator=coordinator(3), silent_since=ALONE), look_again=20),
    Case(
        "listed, and not heard for long",
        world(run=run(HANG), coordinator=coordinator(members={"demo-worker-0": 0.1, "demo-worker-3": 61.0})),
        ("delete demo-worker-3 LauncherSilent",),
    ),
    Case(
        "two silent launchers: one at a time",
        world(run=run(HANG), coordinator=coordinator(2), silent_since=ALONE),
        ("delete demo-worker-3 LauncherSilent",),
        says=("demo-worker-2, demo-worker-3",),
    ),
    Case(
        "no second while the first goes",
        world(run=run(HANG), pods=pods(p3=pod(3, deleting=True)), coordinator=coordinator(2), silent_since=ALONE),
    ),
    Case(
        "all silent at once",
        world(run=run(HANG), coordinator=coordinator(0), silent_since=ALONE),
        conditions={"Healthy": "False AllLaunchersSilent"},
        says=("see the network",),
    ),
    Case(
        "reported only",
        world(run=run({"hang": {"seconds": 60, "action": "Report"}}), coordinator=coordinator(3), silent_since=ALONE),
        conditions={"Healthy": "False LauncherSilent"},
    ),
    Case(
        "silence does not matter",
        world(run=run({"hang": {"seconds": 0}}), coordinator=coordinator(3), silent_since=ALONE),
        conditions={"Healthy": "True AllWell"},
    ),
    Case(
        "the coordinator is new",
        world(run=run(HANG), coordinator=coordinator(3, answering_since=ago(20)), silent_since=ALONE),
    ),
    Case(
        "the container is new",
        world(
            run=run(HANG), pods=pods(p3=pod(3, running_since=ago(20))), coordinator=coordinator(3), silent_since=ALONE
        ),
    ),
    Case(
        "the coordinator does not answer",
        world(run=run(HANG), coordinator=None, silent_since=ALONE),
        conditions={"Healthy": "Unknown CoordinatorSilent", "Progressing": "Unknown CoordinatorSilent"},
    ),
    Case(
        "it answered long ago",
        world(run=run(HANG), coordinator=coordinator(3, asked_at=ago(61)), silent_since=ALONE),
        conditions={"Healthy": "Unknown CoordinatorSilent"},
    ),
    Case(
        "a silent launcher on a lost node is the node's matter",
        world(run=run(HANG), nodes=nodes(n3=2), coordinator=coordinator(3), silent_since=ALONE),
    ),
    Case(
        "a suspended job's launchers may be silent",
        world(
            run=run({"suspend": True, **HANG}, HELD),
            job=job(suspend=True, generation=6, mark=mark()),
            coordinator=coordinator(3),
            silent_since=ALONE,
        ),
        (),
        "Draining",
    ),
]

FINISHED = {"job": job(finished=True, finished_at=ago(100)), **GONE}
LIFE = [
    Case("no pod yet", world(pods=()), (), "Pending", {"Progressing": "True WaitingForPods"}),
    Case(
        "pods wait for nodes",
        world(pods=tuple(pending(index, 5) for index in range(4))),
        (),
        "Pending",
        {"Progressing": "True WaitingForRoom"},
        ("4 of 4 pods find no node",),
    ),
    Case(
        "an image that cannot be pulled",
        world(
            pods=tuple(
                pod(index, phase="Pending", running_since=None, trouble="ImagePullBackOff: no such image")
                for index in range(4)
            )
        ),
        (),
        "Pending",
        {"Progressing": "False ContainerCannotStart", "Healthy": "False ContainerCannotStart"},
        ("no such image",),
    ),
    Case(
        "workers start",
        world(run=run({}, {"phase": "Pending"}), coordinator=coordinator(phase="restoring")),
        (),
        "Starting",
        {"Progressing": "True Starting"},
    ),
    Case("between two attempts a run runs", world(coordinator=coordinator(phase="restoring")), (), "Running"),
    Case("too few for a round", world(coordinator=coordinator(phase="waiting")), (), "Starting"),
    Case("a save is progress", world(coordinator=coordinator(phase="saving"))),
    Case(
        "pods run, and nobody says how far they are",
        world(run=run({}, {"phase": "Pending"}), coordinator=None),
        (),
        "Starting",
    ),
    Case(
        "no checkpoint yet",
        world(coordinator=coordinator(last_checkpoint=None)),
        conditions={"Checkpointed": "False NoCheckpoint"},
    ),
    Case("a checkpoint", world(), conditions={"Checkpointed": "True Committed"}),
    Case(
        "complete",
        world(**FINISHED),
        (),
        "Succeeded",
        {"Succeeded": "True Completed", "Progressing": "False Completed"},
    ),
    Case(
        "failed for good",
        world(job=job(finished=False, message="BackoffLimitExceeded"), **GONE),
        (),
        "Failed",
        {"Failed": "True JobFailed", "Healthy": "False JobFailed", "Succeeded": "False NotFinished"},
        ("BackoffLimitExceeded", "To try again delete the job"),
    ),
    Case(
        "complete, and deleted in a while",
        world(run=run({"completion": {"deleteAfterSeconds": 160}}), **FINISHED),
        (),
        "Succeeded",
        look_again=60,
    ),
    Case(
        "complete, and deleted",
        world(run=run({"completion": {"deleteAfterSeconds": 90}}), **FINISHED),
        ("delete job Completed",),
        "Succeeded",
    ),
    Case(
        "deleted at once",
        world(run=run({"completion": {"deleteAfterSeconds": 0}}), **FINISHED),
        ("delete job Completed",),
        "Succeeded",
    ),
    Case(
        "a failed job is kept",
        world(run=run({"completion": {"deleteAfterSeconds": 0}}), job=job(finished=False, finished_at=ago(9)), **GONE),
        (),
        "Failed",
    ),
    Case(
        "complete, and its job is gone",
        world(run=run({}, {"phase": "Succeeded"}), job=None, **GONE),
        (),
        "Succeeded",
        {"Ready": "True JobDeleted"},
    ),
]

CROSSED = {"elastic": {"min": 5, "max": 3}, "replicas": 4}
INPUT = [
    Case(
        "no such job",
        world(job=None, **GONE),
        (),
        "Pending",
        {"Ready": "False JobNotFound", "Progressing": "False NotReady", "Healthy": "False JobNotFound"},
        ("correct spec.jobRef",),
    ),
    Case(
        "another namespace's job",
        world(job=None, job_elsewhere="other", **GONE),
        (),
        "Pending",
        {"Ready": "False JobInOtherNamespace"},
        ("other has one",),
    ),
    Case(
        "a kind that the cluster does not know",
        world(job=None, kind_served=False, **GONE),
        (),
        "Pending",
        {"Ready": "False KindNotServed"},
        ("install the Kubeflow training operator",),
    ),
    Case(
        "two TrainingRuns on one job",
        world(run=run({"replicas": 6}), owner="older"),
        (),
        "Pending",
        {"Ready": "False JobTaken"},
        ("older TrainingRun older",),
    ),
    Case(
        "a job that is being deleted",
        world(run=run({"replicas": 6}), job=job(deleting=True)),
        (),
        "Draining",
        {"Ready": "False JobDeleting"},
    ),
    Case(
        "min over max, from an older CRD",
        world(run=run(CROSSED)),
        (),
        "Running",
        {"Ready": "False BoundsInvalid", "Healthy": "False BoundsInvalid", "Progressing": "True Training"},
        ("make min at most max",),
    ),
    Case(
        "min over max, and a node is lost all the same",
        world(run=run(CROSSED), nodes=nodes(n2=9), coordinator=coordinator(2)),
        ("force-delete demo-worker-2 NodeLost",),
        conditions={"Ready": "False BoundsInvalid"},
    ),
    Case(
        "min over max, and suspended all the same",
        world(run=run({**CROSSED, "suspend": True})),
        ("suspend SuspendRequested",),
        "Draining",
    ),
    Case("a TrainingRun that is being deleted", world(run=run({"replicas": 6, "suspend": True}, deleting=True))),
]
