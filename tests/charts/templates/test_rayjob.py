"""templates/rayjob.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, container, environment, worker

RAY = {"backend": "rayjob"}


def test_default(chart: Chart) -> None:
    job = chart.one("RayJob", values=RAY)
    assert job["spec"]["entrypoint"] == "gpt-run ray /etc/gpt-run/run.yaml --workers 1:4 --device cuda"
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert "suspend" not in job["spec"]
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]
    # The same Service finds it that finds the coordinator of a PyTorchJob.
    assert head["metadata"]["labels"]["gptrun.io/component"] == "coordinator"
    assert {port["name"]: port["containerPort"] for port in container(head)["ports"]}["http"] == 29480
    group = cluster["workerGroupSpecs"][0]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (1, 2, 4)
    assert "RayJob/demo" not in chart.kinds()


def test_switched_ranks_are_pods_times_gpus(chart: Chart) -> None:
    values = RAY | {
        "workers": {"replicas": 2, "min": 2, "max": 3},
        "gpu": {"perWorker": 8},
        "ray": {"version": "2.49.0", "head": {"resources": {"requests": {"cpu": 7}}}},
        # pragma: allowlist nextline secret
        "store": {"env": [{"name": "AWS_ENDPOINT_URL", "value": "http://s3"}], "secretName": "keys"},
        "coordinator": {"priorityClassName": "high", "nodeSelector": {"pool": "cpu"}},
        "scheduling": {"gang": True, "schedulerName": "gang"},
        "lifecycle": {"suspend": True, "ttlSecondsAfterFinished": 60, "activeDeadlineSeconds": 70, "backoffLimit": 1},
    }
    job = chart.one("RayJob", values=values)
    assert job["spec"]["entrypoint"].endswith(" --workers 16:24 --device cuda")
    assert job["metadata"]["labels"]["ray.io/gang-scheduling-enabled"] == "true"
    spec = job["spec"]
    assert (spec["suspend"], spec["ttlSecondsAfterFinished"], spec["activeDeadlineSeconds"]) == (True, 60, 70)
    cluster = spec["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]
    assert cluster["rayVersion"] == "2.49.0"
    assert container(head)["resources"]["requests"] == {"cpu": 7, "memory": "4Gi"}
    assert (head["spec"]["priorityClassName"], head["spec"]["nodeSelector"]) == ("high", {"pool": "cpu"})
    # The driver writes checkpoints' claims from the head, the workers the checkpoints.
    for pod in (head, worker(job)):
        assert environment(pod)["AWS_ENDPOINT_URL"] == "http://s3"
        assert container(pod)["envFrom"] == [{"secretRef": {"name": "keys"}}]


def test_switched_to_cpus_one_rank_to_a_pod(chart: Chart) -> None:
    job = chart.one("RayJob", values=RAY | {"gpu": {"perWorker": None}})
    assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["rayStartParams"] == {"num-cpus": "1"}
    assert job["spec"]["entrypoint"].endswith(" --device cpu")


def test_refused_unknown_backend(chart: Chart) -> None:
    assert "/backend" in chart.refusal({"backend": "trainjob"})


def test_refused_a_version_that_is_none(chart: Chart) -> None:
    assert "/ray/version" in chart.refusal(RAY | {"ray": {"version": "latest"}})
