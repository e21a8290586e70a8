"""`gpt-run job scale|resume` of a job that a TrainingRun looks after: what they do is what the operator leaves alone.

Over the stub of an API server that the operator's tests have; the operator's own decision says what it would undo.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import Result
from typer.testing import CliRunner

from operators.actions import Action
from operators.api import GROUP, PLURAL, VERSION, JobKind, TrainingRun
from operators.backends import BACKENDS
from operators.decide import decide
from operators.observed import Observed
from operators.records import run_record
from tests.unit.operators.api_stub import ApiStub, refusal, serving
from tests.unit.operators.objects import PYTORCHJOB, RAYJOB, RUN, changed
from trainer.cli.main import app
from trainer.errors import UserError
from trainer.jobs import keeper

KEY = ("runs", "demo")
RAY_RUN = changed(RUN, "spec", "jobRef", to={"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "demo"})


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiStub]:
    with serving(tmp_path) as (made, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield made


def put(stub: ApiStub, plural: str, body: dict[str, Any]) -> None:
    stub.call(lambda: stub.put(plural, body))


def job(*words: str) -> Result:
    return CliRunner().invoke(app, ["job", *words, "--namespace", "runs"])


def wish(stub: ApiStub) -> dict[str, Any]:
    found: dict[str, Any] = stub.objects["trainingruns"][KEY]["spec"]
    return found


def workers(stub: ApiStub) -> int:
    return int(stub.objects["pytorchjobs"][KEY]["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"])


def undone(stub: ApiStub) -> tuple[Action, ...]:
    """What the operator does about it."""
    run = run_record(stub.objects["trainingruns"][KEY])
    record = BACKENDS[JobKind.PYTORCH_JOB].record(stub.objects["pytorchjobs"][KEY])
    assert isinstance(run, TrainingRun)
    return decide(Observed(run=run, job=record.job), datetime.now(UTC)).actions


FOLLOWS = {"min": 1, "max": 8, "capacity": {"enabled": True}}


@pytest.mark.parametrize(
    ("asks", "then"),
    [({"replicas": 2}, 4), ({}, None), ({"elastic": FOLLOWS}, 4)],
    ids=["asks for a number", "asks for none", "follows the room"],
)
def test_a_scale_stays(stub: ApiStub, asks: dict[str, Any], then: int | None) -> None:
    put(stub, "trainingruns", changed(RUN, "spec", to=RUN["spec"] | asks))
    put(stub, "pytorchjobs", changed(PYTORCHJOB, "spec", "runPolicy", to={}))
    told = job("scale", "demo", "4")
    assert told.exit_code == 0, told.output
    assert (workers(stub), wish(stub).get("replicas")) == (4, then)
    assert ("TrainingRun demo: spec.replicas is 4 now" in told.output) == (then is not None)
    assert undone(stub) == ()


def test_a_number_that_the_training_run_does_not_allow_is_refused(stub: ApiStub) -> None:
    put(stub, "trainingruns", changed(RUN, "spec", "elastic", to={"min": 1, "max": 3}))
    put(stub, "pytorchjobs", deepcopy(PYTORCHJOB))
    told = job("scale", "demo", "4")
    assert isinstance(told.exception, UserError)
    assert "1 to 3 workers" in str(told.exception)
    assert workers(stub) == 2


def test_a_rayjob_is_scaled_by_its_training_run(stub: ApiStub) -> None:
    put(stub, "rayjobs", deepcopy(RAYJOB))
    alone = job("scale", "demo", "2")
    assert isinstance(alone.exception, UserError)
    assert "set policy.enabled" in alone.exception.fix
    put(stub, "trainingruns", changed(RAY_RUN, "metadata", "uid", to="r"))
    told = job("scale", "demo", "2")
    assert told.exit_code == 0, told.output
    assert wish(stub)["replicas"] == 2


def test_a_resume_stays(stub: ApiStub) -> None:
    put(stub, "trainingruns", changed(RUN, "spec", "suspend", to=True))
    put(stub, "pytorchjobs", changed(PYTORCHJOB, "spec", "runPolicy", to={"suspend": True}))
    told = job("resume", "demo")
    assert told.exit_code == 0, told.output
    assert "TrainingRun demo: spec.suspend is false now" in told.output
    assert stub.objects["pytorchjobs"][KEY]["spec"]["runPolicy"]["suspend"] is False
    assert wish(stub)["suspend"] is False
    assert undone(stub) == ()


def test_the_training_run_of_another_job_is_left_alone(stub: ApiStub) -> None:
    put(stub, "trainingruns", changed(RAY_RUN, "spec", "replicas", to=2))
    put(stub, "pytorchjobs", deepcopy(PYTORCHJOB))
    assert job("scale", "demo", "4").exit_code == 0
    assert wish(stub)["replicas"] == 2


def test_who_may_not_look_at_training_runs_is_told(stub: ApiStub) -> None:
    put(stub, "pytorchjobs", deepcopy(PYTORCHJOB))

    def forbidden(request: web.Request) -> web.Response | None:
        return refusal(403, "cannot list trainingruns") if "trainingruns" in request.path else None

    stub.call(lambda: setattr(stub, "before", forbidden))
    told = job("scale", "demo", "4")
    assert told.exit_code == 0
    assert "is not known: looking for TrainingRuns: cannot list trainingruns" in told.output
    assert workers(stub) == 4


def test_they_mean_the_same_kind() -> None:
    assert (keeper.GROUP, keeper.VERSION, keeper.PLURAL) == (GROUP, VERSION, PLURAL)
