"""`gpt-run job submit` against a real API server: what it makes, and what it refuses before anything is made."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.cluster.jobs.conftest import MARKS, GptRun, submit, worker_replicas
from tests.cluster.stand_ins import Kubelet, StandIns
from trainer.errors import EXIT_USER_ERROR

pytestmark = MARKS


def test_submit_makes_the_run_and_the_job_owns_it(gpt_run: GptRun, stand_ins: StandIns) -> None:
    result = submit(gpt_run, "gpt2")
    assert result.code == 0, result.err
    assert "PyTorchJob/gpt2 created" in result.out
    assert "Service/gpt2-coordinator created" in result.out
    job = stand_ins.custom.get_namespaced_custom_object(
        "kubeflow.org", "v1", stand_ins.namespace, "pytorchjobs", "gpt2"
    )
    assert {entry["manager"] for entry in job["metadata"]["managedFields"]} == {"gpt-run"}
    for read, name in (
        (stand_ins.core.read_namespaced_config_map, "gpt2-run"),
        (stand_ins.core.read_namespaced_service, "gpt2-coordinator"),
    ):
        (owner,) = read(name, stand_ins.namespace).metadata.owner_references
        assert owner.uid == job["metadata"]["uid"]

    again = submit(gpt_run, "gpt2")
    assert again.code == 0, again.err
    assert {line.split()[-1] for line in again.out.splitlines()} == {"unchanged"}

    # The number of workers is `scale`'s from then on.
    gpt_run("job", "scale", "gpt2", "1")
    assert submit(gpt_run, "gpt2").code == 0
    assert worker_replicas(stand_ins, "gpt2") == 1

    other = submit(gpt_run, "gpt2", "--set", "run.optimizer.lr=1e-4")
    assert other.code == EXIT_USER_ERROR
    assert "gpt2 is there (PyTorchJob, Pending) with another run file" in other.err


def test_submit_as_a_rayjob_and_as_json(gpt_run: GptRun) -> None:
    result = submit(gpt_run, "ray", "--set", "backend=rayjob", "--json")
    assert result.code == 0, result.err
    objects = {(one["kind"], one["name"]): one["change"] for one in json.loads(result.out)["objects"]}
    assert objects["RayJob", "ray"] == "created"


def test_what_the_api_server_refuses_leaves_nothing_behind(gpt_run: GptRun, stand_ins: StandIns) -> None:
    result = submit(gpt_run, "gpt2", "--set", "monitoring.serviceMonitor.enabled=true")
    assert result.code == EXIT_USER_ERROR
    assert "install the Prometheus operator" in result.err
    assert stand_ins.core.list_namespaced_config_map(stand_ins.namespace).items == []


def test_what_the_chart_refuses_is_said_in_its_words(gpt_run: GptRun) -> None:
    result = submit(gpt_run, "gpt2", "--set", "workers.min=9")
    assert result.code == EXIT_USER_ERROR
    assert "workers.min: 9 is more than workers.max" in result.err


def test_a_namespace_that_is_missing(gpt_run: GptRun, stand_ins: StandIns) -> None:
    stand_ins.core.delete_namespace(stand_ins.namespace)
    stand_ins.namespace = "nowhere"
    result = submit(gpt_run, "gpt2")
    assert result.code == EXIT_USER_ERROR
    assert "kubectl create namespace" in result.err


def test_what_a_training_run_of_an_earlier_job_still_asks_for_is_said(gpt_run: GptRun, stand_ins: StandIns) -> None:
    assert "left of an earlier job" not in submit(gpt_run, "gpt2", "--set", "policy.enabled=true").out
    kept = ("gptrun.io", "v1alpha1", stand_ins.namespace, "trainingruns", "gpt2")
    stand_ins.custom.patch_namespaced_custom_object(*kept, {"spec": {"suspend": True, "replicas": 2}})
    assert "left of an earlier job" not in submit(gpt_run, "gpt2", "--set", "policy.enabled=true").out
    stand_ins.custom.delete_namespaced_custom_object("kubeflow.org", "v1", stand_ins.namespace, "pytorchjobs", "gpt2")
    said = submit(gpt_run, "gpt2", "--set", "policy.enabled=true").out
    assert "TrainingRun/gpt2 is left of an earlier job: spec.suspend is true for this one too" in said
    assert "spec.replicas is 2 for this one too (gpt-run job scale gpt2 N changes it)" in said


@pytest.mark.parametrize("ends", [("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")], ids=" ".join)
def test_the_preflight_comes_first(
    gpt_run: GptRun, stand_ins: StandIns, kubelet: Kubelet, ends: tuple[str, ...]
) -> None:
    def preflight() -> None:
        """The Job controller and a kubelet."""
        while not stand_ins.batch.list_namespaced_job(stand_ins.namespace).items:
            time.sleep(0.05)
        labels = {"batch.kubernetes.io/job-name": "gpt2-preflight"}
        stand_ins.pod("gpt2", "gpt2-preflight-x", component="job", **labels)
        if "Failed" in ends:
            end = {"exitCode": 2, "message": "error: s3://bucket/data: no dataset.json"}
            stand_ins.container("gpt2-preflight-x", terminated=end)
        assert jobs(stand_ins) == []
        stand_ins.job_ends("gpt2-preflight", ends)

    thread = threading.Thread(target=preflight)
    thread.start()
    result = submit(gpt_run, "gpt2", "--set", "jobs.preflight.enabled=true")
    thread.join()
    if "Failed" in ends:
        assert result.code == EXIT_USER_ERROR
        assert "gpt2-preflight-x ended with 2: error: s3://bucket/data: no dataset.json" in result.err
        assert jobs(stand_ins) == []
    else:
        assert result.code == 0, result.err
        assert jobs(stand_ins) == ["gpt2"]
        assert stand_ins.core.list_namespaced_config_map(stand_ins.namespace).items[0].metadata.name == "gpt2-run"


def jobs(stand_ins: StandIns) -> list[str]:
    """Names of PyTorchJobs."""
    found = stand_ins.custom.list_namespaced_custom_object("kubeflow.org", "v1", stand_ins.namespace, "pytorchjobs")
    return [item["metadata"]["name"] for item in found["items"]]
