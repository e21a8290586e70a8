"""Values on the command line, and what of a rendered chart is applied when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import UserError
from trainer.jobs.render import in_order, json_override, render
from trainer.jobs.state import JobState, Phase
from trainer.jobs.submit import job_of, owned, refuse_another


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("run.optimizer.lr=1e-4", 1e-4),
        ("workers.replicas=3", 3),
        ("store.url=s3://bucket/runs", "s3://bucket/runs"),
        ("image.tag='1.0'", "1.0"),
        ("gpu.perWorker=null", None),
        ("run.data.train=[a, b]", ["a", "b"]),
        ("run.x=a=b", "a=b"),
    ],
)
def test_values_are_those_of_run_files(given: str, value: object) -> None:
    key, _, text = json_override(given).partition("=")
    assert key == given.partition("=")[0]
    assert json.loads(text) == value


@pytest.mark.parametrize("wrong", ["workers.replicas", "=3"])
def test_an_override_without_a_value(wrong: str) -> None:
    with pytest.raises(UserError, match="--set"):
        json_override(wrong)


def thing(kind: str, name: str, **annotations: str) -> dict[str, Any]:
    notes = {key.replace("_", "-").replace("helm-", "helm.sh/"): value for key, value in annotations.items()}
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "annotations": notes}}


def test_hooks_come_first_by_weight_and_tests_not_at_all() -> None:
    objects = [
        thing("ConfigMap", "run"),
        thing("Job", "preflight", helm_hook="pre-install,pre-upgrade", helm_hook_weight="0"),
        thing("ConfigMap", "hooks", helm_hook="pre-install,pre-upgrade", helm_hook_weight="-30"),
        thing("Pod", "test", helm_hook="test"),
        thing("PyTorchJob", "run"),
    ]
    found = in_order(objects)
    assert [one["metadata"]["name"] for one in found.before] == ["hooks", "preflight"]
    assert [one["kind"] for one in found.objects] == ["ConfigMap", "PyTorchJob"]


def test_helm_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="helm is not on PATH"):
        render("x", chart="charts/gpt-run", namespace="default", values=[], overrides=[])


def test_a_chart_without_a_run() -> None:
    with pytest.raises(UserError, match="renders Service"):
        job_of([thing("Service", "x")])


JOB = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob"}
JOB |= {"metadata": {"name": "gpt2", "annotations": {"gptrun.io/run-sha256": "aa"}}}


def there(**fields: Any) -> JobState:
    known = {"kind": "PyTorchJob", "phase": Phase.RUNNING, "run_sha256": "aa", **fields}
    return JobState(name="gpt2", message="", replicas=1, min_replicas=1, max_replicas=1, uid="u", **known)


def test_the_same_run_may_be_submitted_again() -> None:
    refuse_another(there(), JOB)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (there(run_sha256="bb"), "with another run file"),
        (there(run_sha256=None), "with another run file"),
        (there(kind="RayJob"), "kubectl delete rayjob/gpt2"),
        (there(phase=Phase.FAILED), "over: Failed"),
        (there(helm_release="gpt2"), "helm upgrade gpt2"),
    ],
)
def test_a_name_that_is_taken(before: JobState, words: str) -> None:
    with pytest.raises(UserError) as refused:
        refuse_another(before, JOB)
    assert words in str(refused.value)


def test_an_owner_is_added_once_there_is_one() -> None:
    item = thing("Service", "gpt2-coordinator")
    assert owned(item, JOB, None) is item
    assert owned(item, JOB, "u")["metadata"]["ownerReferences"] == [
        {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": "gpt2", "uid": "u"}
    ]
    assert "ownerReferences" not in item["metadata"]
