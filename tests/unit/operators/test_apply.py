"""What is done to the API server, and upon what: over HTTP, on the stub of `api_stub`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from operators.actions import ActionReason, DeleteJob
from operators.api import JobKind, TrainingRun
from operators.apply import Applier, Result
from operators.backends import BACKENDS
from operators.caches import Caches
from operators.events import Events
from operators.kube import Api
from operators.metrics import Metrics
from operators.records import run_record
from tests.unit.operators.api_stub import ApiStub, serving
from tests.unit.operators.objects import PYTORCHJOB, RUN, changed

DONE = changed(RUN, "spec", "completion", to={"deleteAfterSeconds": 60})


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiStub]:
    with serving(tmp_path) as (made, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        made.call(lambda: made.put("trainingruns", changed(DONE, "metadata", "uid", to="r")))
        made.call(lambda: made.put("pytorchjobs", changed(PYTORCHJOB, "metadata", "uid", to="j")))
        yield made


def delete(stub: ApiStub, meanwhile: Callable[[], object]) -> tuple[Result, list[str]]:
    """Delete the job after something has happened that no watch has told of; the result, and jobs that are left."""

    async def body() -> Result:
        caches = Caches(lambda *_: None)
        run = run_record(stub.objects["trainingruns"]["runs", "demo"])
        record = BACKENDS[JobKind.PYTORCH_JOB].record(stub.objects["pytorchjobs"]["runs", "demo"])
        caches.put(run)
        caches.put(record)
        assert isinstance(run, TrainingRun)
        stub.call(meanwhile)
        action = DeleteJob(record.job.uid, ActionReason.COMPLETED, "complete", record.job.resource_version)
        async with Api() as api:
            events = Events(api, "me")
            result = await Applier(api, caches, events, Metrics(), lambda: True).act(run, action)
            await events.settle()
        return result

    result = asyncio.run(asyncio.wait_for(body(), 60))
    return result, [name for _, name in stub.objects["pytorchjobs"]]


def test_a_job_is_deleted_that_is_as_it_was_seen(stub: ApiStub) -> None:
    assert delete(stub, lambda: None) == (Result.DONE, [])
    assert [event["reason"] for event in stub.objects["events"].values()] == ["Completed"]


def test_a_status_that_was_written_meanwhile_is_no_other_wish(stub: ApiStub) -> None:
    status = {"status": {"phase": "Succeeded"}}
    assert delete(stub, lambda: stub.change("trainingruns", "runs", "demo", status))[0] is Result.DONE


MEANWHILE: dict[str, Callable[[ApiStub], object]] = {
    "somebody wants to keep it": lambda stub: stub.change(
        "trainingruns", "runs", "demo", {"spec": {"completion": {"deleteAfterSeconds": None}}}
    ),
    "the TrainingRun is gone": lambda stub: stub.remove("trainingruns", "runs", "demo"),
    "the TrainingRun is going": lambda stub: stub.change(
        "trainingruns", "runs", "demo", {"metadata": {"deletionTimestamp": "2026-11-22T12:00:00Z"}}
    ),
    "another TrainingRun of that name": lambda stub: stub.put(
        "trainingruns", changed(DONE, "metadata", "uid", to="r2")
    ),
    "the job was made anew": lambda stub: stub.put("pytorchjobs", changed(PYTORCHJOB, "metadata", "uid", to="j2")),
    "the job has changed": lambda stub: stub.change("pytorchjobs", "runs", "demo", {"status": {"startTime": None}}),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_nothing_is_deleted_upon_old_news(stub: ApiStub, what: str) -> None:
    assert delete(stub, lambda: MEANWHILE[what](stub)) == (Result.OLD_NEWS, ["demo"])
    assert "events" not in stub.objects
