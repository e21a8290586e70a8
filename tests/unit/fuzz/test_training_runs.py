"""TrainingRuns that an older definition let through, and what coordinators answer: words, never an error."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from operators.coordinators import parse
from operators.records import InvalidRun, run_record
from tests.unit.fuzz.mutations import JSON, changed, damaged, few

RUN: dict[str, Any] = {
    "metadata": {
        "namespace": "runs",
        "name": "demo",
        "uid": "u",
        "generation": 1,
        "resourceVersion": "5",
        "creationTimestamp": "2026-11-22T11:06:57Z",
    },
    "spec": {
        "jobRef": {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": "demo"},
        "elastic": {"min": 1, "max": 4, "capacity": {"enabled": True, "pendingSeconds": 900}},
        "restart": {"failures": 3, "windowSeconds": 3600},
        "hang": {"seconds": 120, "action": "Replace"},
        "suspend": False,
        "replicas": 2,
    },
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-22T11:06:57Z"}],
        "restarts": [{"reason": "Preempted", "count": 3}],
        "lastCheckpoint": {"name": "step-1", "step": 1, "time": "2026-11-22T11:06:57Z", "url": "u"},
    },
}
STATUS = {
    "format": 1,
    "run": "demo",
    "attempt": "a0001",
    "phase": "training",
    "step": 3,
    "loss": 2.5,
    "members": [{"id": "x", "host": "demo-worker-0", "slots": 1, "step": 3, "last_seen_seconds": 0.1}],
    "goodput_seconds": {"training": 5.0, "init": 1.0},
    "restarts": {"Preempted": 1},
    "last_checkpoint": {"name": "n", "step": 1, "time": "2026-11-22T11:06:57Z", "url": "u"},
    "last_error": {"exit_code": 1, "reason": "Hung", "message": "m", "time": "2026-11-22T11:06:57+00:00"},
}


@few
@given(spec=changed(RUN["spec"]), status=changed(RUN["status"]))
def test_training_runs(spec: Any, status: Any) -> None:
    found = run_record({**RUN, "spec": spec, "status": status})
    assert not isinstance(found, InvalidRun) or found.message


@few
@given(data=st.data())
def test_answers_of_coordinators(data: st.DataObject) -> None:
    whole = json.dumps(STATUS).encode()
    said = data.draw(damaged(whole) | changed(STATUS).map(lambda value: json.dumps(value).encode()) | JSON.map(repr))
    body = said.encode() if isinstance(said, str) else said
    # What `ask` takes for an answer that is none.
    with suppress(ValueError, ValidationError, RecursionError):
        parse(body, datetime.now(UTC), "uid")
