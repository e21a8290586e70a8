"""What the API server does not let the operator do is said for as long as it is to be done."""

from __future__ import annotations

from datetime import timedelta

from operators.observed import Refused
from tests.unit.operators.cases.case import GONE, Case
from tests.unit.operators.worlds import NOW, job, run, world

_BOUNDS = Refused("Scale", lacks_right=False, message="refused: workers.max is 4")
_RIGHT = Refused("Scale", lacks_right=True, message="give its account the verb patch")
_DONE = NOW - timedelta(seconds=100)

REFUSALS = [
    Case(
        "a scale that a policy refuses",
        world(run=run({"replicas": 6}), refused=_BOUNDS),
        ("scale 4->6 ScaleRequested",),
        conditions={"Healthy": "False Refused", "Progressing": "True Training"},
        says=("workers.max is 4",),
    ),
    Case(
        "a scale without the right to",
        world(run=run({"replicas": 6}), refused=_RIGHT),
        ("scale 4->6 ScaleRequested",),
        conditions={"Healthy": "False Forbidden"},
        says=("the verb patch",),
    ),
    Case(
        "a scale that was refused, and is not wanted any more",
        world(refused=_BOUNDS),
        conditions={"Healthy": "True AllWell"},
    ),
    Case(
        "a refusal of another action",
        world(run=run({"replicas": 6}), refused=Refused("DeletePod", lacks_right=False, message="no")),
        ("scale 4->6 ScaleRequested",),
        conditions={"Healthy": "True AllWell"},
    ),
    Case(
        "a finished job that may not be deleted",
        world(
            run=run({"completion": {"deleteAfterSeconds": 60}}),
            job=job(finished=True, finished_at=_DONE),
            refused=Refused("DeleteJob", lacks_right=False, message="it is protected"),
            **GONE,
        ),
        ("delete job Completed",),
        "Succeeded",
        conditions={"Healthy": "False Refused", "Succeeded": "True Completed"},
        says=("it is protected",),
    ),
]
