from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from operators.api import JobKind, TrainingRun
from operators.backends import BACKENDS
from operators.backends.backend import JSON_PATCH
from operators.observed import Exit
from operators.records import InvalidRun, JobKey, node_record, pod_record, ray_job, run_record
from tests.unit.operators.objects import NODE, POD, PYTORCHJOB, RAYJOB, RUN, changed

STATUS = ("status", "containerStatuses", 0)
ENDED = {"exitCode": 2, "finishedAt": "2026-11-22T11:08:00Z", "message": "error: no such file\n"}


def test_a_worker_of_a_pytorchjob() -> None:
    found = pod_record(POD)
    assert found.job == JobKey(JobKind.PYTORCH_JOB, "runs", "demo")
    assert found.owner_uid == PYTORCHJOB["metadata"]["uid"]
    assert dict(found.requests) == {"cpu": 500, "nvidia.com/gpu": 8000}
    worker = found.worker
    assert worker is not None
    assert (worker.phase, worker.node, worker.restarts, worker.exit) == ("Running", "node-0", 0, None)
    assert worker.running_since == datetime(2026, 11, 22, 11, 7, 30, tzinfo=UTC)
    assert worker.unschedulable_since is None


def test_nothing_is_kept_of_a_foreign_pod_but_what_it_takes() -> None:
    body = changed(changed(POD, "metadata", "ownerReferences", to=[]), "metadata", "labels", to={"a": "b"})
    found = pod_record(body)
    assert (found.job, found.coordinator_of, found.worker) == (None, None, None)
    assert found.requests is pod_record(POD).requests, "equal amounts are shared"


def test_a_pod_without_a_node() -> None:
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "lastTransitionTime": "2026-11-22T11:07:00Z",
    }
    body = changed(POD, "status", to={"phase": "Pending", "conditions": [unscheduled]})
    del body["spec"]["nodeName"]
    worker = pod_record(body).worker
    assert worker is not None
    assert worker.unschedulable_since == datetime(2026, 11, 22, 11, 7, tzinfo=UTC)
    assert (worker.node, worker.running_since) == (None, None)


@pytest.mark.parametrize(
    ("container", "restarts", "exit_", "trouble"),
    [
        ({"state": {"terminated": ENDED}, "restartCount": 0}, 0, 2, None),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": ENDED},
                "restartCount": 3,
            },
            3,
            2,
            None,
        ),
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}},
            0,
            None,
            "ImagePullBackOff: not found",
        ),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, 0, None, None),
    ],
)
def test_what_became_of_a_container(
    container: dict[str, Any], restarts: int, exit_: int | None, trouble: str | None
) -> None:
    worker = pod_record(changed(POD, *STATUS, to={"name": "pytorch", **container})).worker
    assert worker is not None
    assert (worker.restarts, worker.trouble, worker.running_since) == (restarts, trouble, None)
    end = Exit(2, datetime(2026, 11, 22, 11, 8, tzinfo=UTC), "error: no such file")
    assert worker.exit == (None if exit_ is None else end)


def test_a_sidecar_is_not_what_trains() -> None:
    sidecar = {"name": "logs", "state": {"terminated": ENDED}}
    body = changed(POD, "status", "containerStatuses", to=[sidecar, POD["status"]["containerStatuses"][0]])
    worker = pod_record(body).worker
    assert worker is not None
    assert (worker.exit, worker.running_since is None) == (None, False)


@pytest.mark.parametrize(
    ("cluster", "job"),
    [
        ("demo-x7f2q", "demo"),
        ("demo-raycluster-x7f2q", "demo"),
        ("a-bcdef-x7f2q", "a-bcdef"),
        ("demo", None),
        ("", None),
    ],
)
def test_whose_ray_cluster_it_is(cluster: str, job: str | None) -> None:
    assert ray_job("runs", cluster) == (None if job is None else JobKey(JobKind.RAY_JOB, "runs", job))


def test_nodes() -> None:
    found = node_record(NODE)
    assert (found.ready, found.not_ready_since) == (True, None)
    lost = changed(NODE, "status", "conditions", 1, "status", to="Unknown")
    found = node_record(lost)
    assert (found.ready, found.not_ready_since) == (False, datetime(2026, 11, 22, 11, 6, 50, tzinfo=UTC))
    assert not found.place.ready


def test_runs() -> None:
    assert isinstance(run_record(RUN), TrainingRun)
    found = run_record(changed(RUN, "spec", "elastic", "min", to=0))
    assert isinstance(found, InvalidRun)
    assert "spec.elastic.min" in found.message
    assert "found '0'" in found.message
    assert "CustomResourceDefinition" in found.message


def test_a_pytorchjob() -> None:
    backend = BACKENDS[JobKind.PYTORCH_JOB]
    record = backend.record(PYTORCHJOB)
    job = record.job
    assert (job.replicas, job.suspend, job.finished, job.queue, job.generation) == (2, False, None, None, 2)
    assert job.message == "PyTorchJob runs/demo is running."
    assert record.shape is not None
    assert dict(record.shape.requests) == {"cpu": 64_000, "memory": 256 * 2**30 * 1000, "nvidia.com/gpu": 8000}
    (patch,) = backend.scale(record, 3, "241")
    assert patch.body == {
        "metadata": {"resourceVersion": "241"},
        "spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": 3}}},
    }
    (patch,) = backend.suspend(record, "ConfigInvalid then", "241")
    assert patch.body == {
        "metadata": {"resourceVersion": "241", "annotations": {"gptrun.io/suspended-for": "ConfigInvalid then"}},
        "spec": {"runPolicy": {"suspend": True}},
    }
    assert patch.resource.path("runs", patch.name) == "/apis/kubeflow.org/v1/namespaces/runs/pytorchjobs/demo"
    (patch,) = backend.suspend(record, None, "242")
    assert patch.body == {
        "metadata": {"resourceVersion": "242", "annotations": {"gptrun.io/suspended-for": None}},
        "spec": {"runPolicy": {"suspend": False}},
    }
    marked = changed(PYTORCHJOB, "metadata", "annotations", to={"gptrun.io/suspended-for": "ConfigInvalid then"})
    assert (backend.record(marked).job.mark, job.mark) == ("ConfigInvalid then", "")


@pytest.mark.parametrize(("kind", "finished"), [("Succeeded", True), ("Failed", False)])
def test_a_pytorchjob_that_is_over(kind: str, finished: bool) -> None:
    end = {"type": kind, "status": "True", "message": "why", "lastTransitionTime": "2026-11-22T12:00:00Z"}
    job = BACKENDS[JobKind.PYTORCH_JOB].record(changed(PYTORCHJOB, "status", "conditions", to=[end])).job
    assert (job.finished, job.message) == (finished, "why")
    assert job.finished_at == datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "value", "same"),
    [
        (("spec", "pytorchReplicaSpecs", "Worker", "replicas"), 5, True),
        (("spec", "runPolicy", "suspend"), True, True),
        (("status", "startTime"), "2026-11-22T12:00:00Z", True),
        (("spec", "pytorchReplicaSpecs", "Worker", "template", "spec", "hostname"), "a", False),
        (("metadata", "annotations", "gptrun.io/run-sha256"), "another file", False),
        (("spec", "nprocPerNode"), "4", False),
    ],
)
def test_a_template_is_what_pods_are_made_of(path: tuple[str, ...], value: Any, same: bool) -> None:
    backend = BACKENDS[JobKind.PYTORCH_JOB]
    before = backend.record(PYTORCHJOB).job.template
    after = backend.record(changed(PYTORCHJOB, *path, to=value)).job.template
    assert (before == after) is same


def test_a_rayjob() -> None:
    backend = BACKENDS[JobKind.RAY_JOB]
    record = backend.record(RAYJOB)
    assert (record.job.replicas, record.job.queue, record.cluster) == (3, "team", "demo-x7f2q")
    cluster, job = backend.scale(record, 4, "300")
    assert (cluster.name, job.name) == ("demo-x7f2q", "demo")
    assert {cluster.content_type, job.content_type} == {JSON_PATCH}
    assert job.body[0] == {"op": "replace", "path": "/metadata/resourceVersion", "value": "300"}
    over = changed(RAYJOB, "status", to={"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"})
    assert backend.record(over).job.finished is True
    over["status"]["jobStatus"] = "FAILED"
    assert backend.record(over).job.finished is False
    suspended = changed(RAYJOB, "status", to={"jobDeploymentStatus": "Suspended"})
    assert len(backend.scale(backend.record(suspended), 4, "300")) == 1, "no cluster to tell"
