"""Suspend and resume, and what is given up."""

from __future__ import annotations

from dataclasses import replace as but

from operators.observed import Error
from tests.unit.operators.cases.case import GONE, HELD, KUEUE, SUSPENDED, Case
from tests.unit.operators.worlds import (
    ago,
    coordinator,
    ended,
    job,
    mark,
    nodes,
    pending,
    pod,
    pods,
    run,
    suspension,
    world,
)
from trainer.elastic.reasons import Reason

INVALID = Error(exit_code=2, reason=Reason.CONFIG_INVALID, message="run.yaml: model.layers is -1", time=ago(3))
SPENT = Error(exit_code=1, reason=Reason.BUDGET_EXHAUSTED, message="4 failures within 3600 s: boom", time=ago(3))

SUSPEND = [
    Case(
        "kubectl patch suspend",
        world(run=run({"suspend": True})),
        ("suspend SuspendRequested",),
        "Draining",
        {"Progressing": "False Suspended"},
        ("To go on set spec.suspend to false",),
    ),
    Case(
        "its pods are going",
        world(
            run=run({"suspend": True}, HELD),
            job=job(suspend=True, generation=6, mark=mark()),
            pods=(pod(0, deleting=True),),
        ),
        (),
        "Draining",
    ),
    Case(
        "its pods are gone",
        world(run=run({"suspend": True}, HELD), **SUSPENDED),
        (),
        "Suspended",
        {"Progressing": "False Suspended", "Healthy": "True AllWell", "Failed": "False NotFinished"},
    ),
    Case(
        "decided and not done",
        world(run=run({"suspend": True}, {"suspension": suspension(jobGeneration=0)})),
        ("suspend SuspendRequested",),
        "Draining",
    ),
    Case(
        "seen done, and then older news", world(run=run({"suspend": True}, HELD), job=job(generation=5)), (), "Draining"
    ),
    Case(
        "set to run by another: the TrainingRun wins",
        world(run=run({"suspend": True}, HELD), job=job(generation=7)),
        ("suspend SuspendRequested",),
        "Draining",
    ),
    Case("resume", world(run=run({}, HELD), **SUSPENDED), ("resume ResumeRequested",), "Suspended"),
    Case(
        "resumed, and suspended by another before that was seen",
        world(run=run({}, HELD), job=job(suspend=True, generation=8), **GONE),
        (),
        "Suspended",
        {"Progressing": "False SuspendedByOthers"},
    ),
    Case(
        "decided, and then older news of another suspension of ours",
        world(
            run=run({"suspend": True}, {"suspension": suspension(jobGeneration=0, decidedAtJobGeneration=5)}),
            job=job(suspend=True, generation=4, mark=mark("ConfigInvalid")),
            **GONE,
        ),
        (),
        "Suspended",
        {"Progressing": "False Suspended"},
    ),
    Case(
        "seen suspended, and then older news of another suspension",
        world(run=run({"suspend": True}, HELD), job=job(suspend=True, generation=4), **GONE),
        (),
        "Suspended",
        {"Progressing": "False Suspended"},
    ),
    Case("resumed", world(run=run({}, HELD), job=job(generation=7), pods=(pending(0, 1),)), (), "Pending"),
    Case(
        "suspended by others stays so",
        world(run=run({}), **SUSPENDED),
        (),
        "Suspended",
        {"Progressing": "False SuspendedByOthers"},
        ("set its suspend to false",),
    ),
    Case(
        "suspended by its queue",
        world(run=run({}), job=job(suspend=True, **KUEUE), **GONE),
        (),
        "Suspended",
        {"Progressing": "False SuspendedByOthers"},
        ("when its turn comes",),
    ),
    Case(
        "suspended by others before we were asked to", world(run=run({"suspend": True}), **SUSPENDED), (), "Suspended"
    ),
    Case(
        "asked for and taken back before it was done",
        world(run=run({}, {"suspension": suspension(jobGeneration=0, time=ago(5))})),
        (),
        "Draining",
        look_again=55,
    ),
    Case(
        "asked for and taken back: nothing is scaled before it is known whether it was done",
        world(run=run({"replicas": 6}, {"suspension": suspension(jobGeneration=0, time=ago(5))})),
        (),
        "Draining",
    ),
    Case(
        "nor upon old news of a job that is suspended",
        world(run=run({"suspend": True, "replicas": 6}, HELD), job=job(generation=5)),
        (),
        "Draining",
    ),
    Case("taken back, and it never was", world(run=run({}, {"suspension": suspension(jobGeneration=0, time=ago(61))}))),
    Case("a suspension of an earlier job of that name", world(run=run({}, {"suspension": suspension(jobUid="older")}))),
    Case(
        "a queue starts what was suspended: once is enough",
        world(run=run({"suspend": True}, HELD), job=job(generation=7, **KUEUE)),
        (),
        "Running",
        {"Healthy": "False QueueOverrules"},
        ("set spec.active of its Workload to false",),
    ),
    Case(
        "overruled stays so",
        world(run=run({"suspend": True}, {"suspension": suspension(overruled=True)}), job=job(generation=9, **KUEUE)),
    ),
    Case(
        "overruled and not wanted any more",
        world(run=run({}, {"suspension": suspension(overruled=True)}), job=job(generation=9, **KUEUE)),
        (),
        "Running",
        {"Healthy": "True AllWell"},
    ),
    Case(
        "a queue resumes what it manages",
        world(run=run({}, HELD), job=job(suspend=True, generation=6, mark=mark(), **KUEUE), **GONE),
        (),
        "Suspended",
        {"Progressing": "False SuspendedByOthers"},
    ),
    Case(
        "a suspended run keeps what its coordinator said",
        world(run=run({"suspend": True}, {"step": 1200, **HELD}), **SUSPENDED),
        (),
        "Suspended",
    ),
]

BAD = {"suspension": suspension("ConfigInvalid")}
UNSEEN = {"suspension": suspension("ConfigInvalid", jobGeneration=0)}
BAD_JOB = {"job": job(suspend=True, generation=6, mark=mark("ConfigInvalid")), **GONE}
SPENT_JOB = {"job": job(suspend=True, generation=6, mark=mark("BudgetExhausted")), **GONE}
SPENT_BEFORE = {"suspension": suspension("BudgetExhausted")}
TIMES = {"failures": {"times": [ago(900), ago(600), ago(300)], "lastError": "boom"}}
SPENT_TIMES = {"failures": {"times": [ago(seconds) for seconds in (900, 700, 500, 300)], "lastError": "boom"}}
FAILURES = [
    Case(
        "exit 2 of a container",
        world(pods=pods(p1=ended(1, 2, "run.yaml: model.layers is -1"))),
        ("suspend ConfigInvalid",),
        "Draining",
        {"Progressing": "False ConfigInvalid", "Healthy": "False ConfigInvalid", "Failed": "False NotFinished"},
        ("model.layers is -1", "To try again correct the PyTorchJob"),
    ),
    Case(
        "exit 2 of a container that was started again",
        world(pods=pods(p1=but(ended(1, 2, restarts=1), running_since=ago(2)))),
        ("suspend ConfigInvalid",),
        "Draining",
    ),
    Case(
        "exit 2 by the coordinator",
        world(coordinator=coordinator(phase="failed", last_error=INVALID)),
        ("suspend ConfigInvalid",),
        "Draining",
    ),
    Case(
        "exit 2 of an earlier life by the coordinator",
        world(
            run=run({}, {"failures": {"verdictTime": ago(3)}}),
            coordinator=coordinator(phase="failed", last_error=INVALID),
        ),
    ),
    Case("exit 2 of a pod that goes", world(pods=pods(p1=ended(1, 2, deleting=True)))),
    Case(
        "exit 2 that was seen before",
        world(run=run({}, {"failures": {"seen": {"pod/uid-1": 1}}}), pods=pods(p1=ended(1, 2))),
    ),
    Case("exit 2 while suspended by others", world(job=job(suspend=True), pods=(ended(1, 2),)), (), "Draining"),
    Case(
        "wrong config stays suspended",
        world(run=run({}, BAD), **BAD_JOB),
        (),
        "Suspended",
        {"Progressing": "False ConfigInvalid"},
    ),
    Case(
        "somebody else suspended it in the moment that we would have",
        world(run=run({}, UNSEEN), job=job(suspend=True, generation=6, template="b"), **GONE),
        (),
        "Suspended",
        {"Progressing": "False SuspendedByOthers"},
    ),
    Case(
        "our suspension is known by the mark that it left",
        world(
            run=run({}, UNSEEN), job=job(suspend=True, generation=6, template="b", mark=mark("ConfigInvalid")), **GONE
        ),
        ("resume JobChanged",),
        "Suspended",
    ),
    Case(
        "wrong config, and the job was changed",
        world(run=run({}, BAD), job=job(suspend=True, generation=7, template="b", mark=mark("ConfigInvalid")), **GONE),
        ("resume JobChanged",),
        "Suspended",
    ),
    Case(
        "wrong config, and the TrainingRun was changed",
        world(run=run({}, BAD, generation=4), **BAD_JOB),
        ("resume ResumeRequested",),
        "Suspended",
    ),
    Case(
        "the job was changed, but shall be suspended",
        world(run=run({"suspend": True}, BAD, generation=4), job=job(suspend=True, template="b"), **GONE),
        (),
        "Suspended",
    ),
    Case("wrong config, resumed by hand", world(run=run({}, BAD), job=job(generation=7), pods=(pod(0),))),
    Case(
        "given up, and the job was made anew: a new budget",
        world(
            run=run({}, {"suspension": suspension("BudgetExhausted", jobUid="older"), **SPENT_TIMES}),
            pods=pods(p1=ended(1, 1)),
        ),
        conditions={"Failed": "False NotFinished"},
    ),
    Case("one failure is tried again", world(pods=pods(p1=ended(1, 1, "boom")))),
    Case(
        "one failure too many",
        world(run=run({}, TIMES), pods=pods(p1=ended(1, 1, "boom"))),
        ("suspend BudgetExhausted",),
        "Failed",
        {"Failed": "True BudgetExhausted", "Progressing": "False BudgetExhausted"},
        ("4 failures within 3600 s", "spec.restart.failures allows 3", "boom"),
    ),
    Case(
        "one failure too many by the coordinator's counters",
        world(
            run=run({}, {"failures": {**TIMES["failures"], "seen": {"coordinator/c1/Hung": 3}}}),
            coordinator=coordinator(restarts={"Hung": 4}),
        ),
        ("suspend BudgetExhausted",),
        "Failed",
    ),
    Case(
        "an older answer, whose counter is lower, tells of no failure",
        world(
            run=run({}, {"failures": {**TIMES["failures"], "seen": {"coordinator/c1/Hung": 3}}}),
            coordinator=coordinator(restarts={"Hung": 2}),
        ),
    ),
    Case(
        "failures long ago are forgotten",
        world(run=run({}, {"failures": {"times": [ago(9000), ago(8000), ago(7000)]}}), pods=pods(p1=ended(1, 1))),
    ),
    Case(
        "no budget at all",
        world(run=run({"restart": {"failures": 0}}), pods=pods(p1=ended(1, 1))),
        ("suspend BudgetExhausted",),
        "Failed",
    ),
    Case(
        "the trainer's own budget",
        world(coordinator=coordinator(phase="failed", last_error=SPENT)),
        ("suspend BudgetExhausted",),
        "Failed",
        {"Failed": "True BudgetExhausted"},
        ("4 failures within 3600 s: boom",),
    ),
    Case(
        "the trainer's own budget, of a coordinator that tells no times",
        world(pods=pods(p1=ended(1, 1, "4 failures")), coordinator=coordinator(last_error=but(SPENT, time=None))),
        ("suspend BudgetExhausted",),
        "Failed",
    ),
    Case(
        "preempted, scaled, lost: nothing of the budget",
        world(
            run=run({"restart": {"failures": 0}}),
            coordinator=coordinator(
                restarts={"Preempted": 9, "Scaled": 9, "NodeLost": 9, "CoordinatorLost": 1, "Fenced": 1}
            ),
        ),
    ),
    Case(
        "exit 75 and 0 cost nothing",
        world(run=run({"restart": {"failures": 0}}), pods=pods(p1=ended(1, 75), p2=ended(2, 0))),
    ),
    Case(
        "255 is of a node that was restarted",
        world(run=run({"restart": {"failures": 0}}), pods=pods(p1=ended(1, 255))),
    ),
    Case(
        "a pod that goes costs nothing",
        world(run=run({"restart": {"failures": 0}}), pods=pods(p1=ended(1, 137, deleting=True))),
    ),
    Case(
        "a pod on a lost node costs nothing",
        world(run=run({"restart": {"failures": 0}}), pods=pods(p1=ended(1, 137)), nodes=nodes(n1=2)),
        conditions={"Healthy": "False NodeLost"},
    ),
    Case(
        "137 of a pod that nobody deletes counts",
        world(run=run({"restart": {"failures": 0}}), pods=pods(p1=ended(1, 137))),
        ("suspend BudgetExhausted",),
        "Failed",
    ),
    Case(
        "an end whose reason is no failure costs nothing",
        world(
            run=run({"restart": {"failures": 0}}),
            pods=pods(p1=ended(1, 1, f"{Reason.FENCED}: a newer attempt")),
            coordinator=coordinator(),
        ),
    ),
    Case(
        "launchers that waited for a coordinator in vain have not failed",
        world(
            run=run({"restart": {"failures": 0}}),
            pods=pods(p1=ended(1, 1, f"{Reason.COORDINATOR_LOST}: demo-coordinator:29400 refused, for 300 s")),
            coordinator=coordinator(),
        ),
    ),
    Case(
        "given up stays so",
        world(run=run({}, SPENT_BEFORE | TIMES), **SPENT_JOB),
        (),
        "Failed",
        {"Failed": "True BudgetExhausted"},
    ),
    Case(
        "given up, and the TrainingRun was changed",
        world(run=run({}, SPENT_BEFORE | TIMES, generation=4), **SPENT_JOB),
        ("resume ResumeRequested",),
        "Failed",
    ),
    Case(
        "given up, and resumed by hand: a new budget",
        world(run=run({}, SPENT_BEFORE | TIMES), job=job(generation=7), pods=pods(p1=ended(1, 1))),
    ),
    Case(
        "a run that was there before the operator is not blamed for its past",
        world(
            run=run({"restart": {"failures": 0}}, {"observedGeneration": 0}),
            coordinator=coordinator(restarts={"Hung": 7}),
        ),
    ),
]
