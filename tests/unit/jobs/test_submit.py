"""Who owns what of a submitted run, and what a job that is deleted by itself takes with it."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.jobs.submit import cut_short, owned


def an_object(kind: str, name: str = "demo", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


JOB = an_object("PyTorchJob")
SHORT = an_object("PyTorchJob", runPolicy={"ttlSecondsAfterFinished": 60})
RUN = an_object("TrainingRun", completion={"deleteAfterSeconds": 30})
EXPORT = an_object("Job", "demo-export")


@pytest.mark.parametrize("kind", ["Service", "Job", "Deployment"])
def test_what_only_the_run_needs_goes_with_its_job(kind: str) -> None:
    item = an_object(kind)
    assert owned(item, JOB, None) == item
    (owner,) = owned(item, JOB, "u")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("PyTorchJob", "demo", "u")


def test_the_training_run_outlives_its_job() -> None:
    assert owned(RUN, JOB, "u") == RUN


@pytest.mark.parametrize(
    ("job", "others", "seconds"),
    [
        (JOB, [EXPORT], None),
        (SHORT, [], None),
        (SHORT, [EXPORT], 60),
        (SHORT, [EXPORT, RUN], 30),
        (JOB, [EXPORT, RUN], 30),
        (an_object("RayJob", ttlSecondsAfterFinished=60), [EXPORT], None),
    ],
)
def test_an_export_is_told_how_long_it_has(
    job: dict[str, Any], others: list[dict[str, Any]], seconds: int | None
) -> None:
    said = cut_short([job, *others], job)
    begin = f"Job/demo-export has {seconds} s: "
    assert [line.startswith(begin) for line in said] == ([] if seconds is None else [True])
