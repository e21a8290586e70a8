"""templates/pytorchjob.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, container, environment, worker

ALL = {
    "workers": {"replicas": 3, "min": 2, "max": 5, "shm": "1Gi", "ephemeralStorage": "2Gi"},
    "gpu": {"perWorker": 8, "product": "NVIDIA-H100-80GB-HBM3", "pricePerHour": 0.5, "currency": "EUR"},
    "nodePool": {
        "selector": {"pool": "a"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "topologySpread": "topology.kubernetes.io/zone",
        "priorityClassName": "training",
    },
    "scheduling": {"queueName": "team", "schedulerName": "gang", "gang": True},
    "lifecycle": {
        "gracePeriodSeconds": 300,
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": 0,
        "activeDeadlineSeconds": 10000000,
        "suspend": True,
    },
    "network": {"env": [{"name": "NCCL_DEBUG", "value": "INFO"}]},
}


def test_default(chart: Chart) -> None:
    job = chart.one("PyTorchJob")
    assert job["spec"]["elasticPolicy"] == {
        "minReplicas": 1,
        "maxReplicas": 4,
        "rdzvBackend": "c10d",
        "rdzvHost": "demo-coordinator",
        "rdzvPort": 29400,
    }
    assert set(job["spec"]["pytorchReplicaSpecs"]) == {"Worker"}
    assert job["spec"]["pytorchReplicaSpecs"]["Worker"]["restartPolicy"] == "OnFailure"
    # Only who suspends says so: Kueue, the operator and people own the field otherwise.
    assert "suspend" not in job["spec"]["runPolicy"]
    trainer = container(worker(job), "pytorch")
    assert trainer["command"] == ["gpt-run", "train", "/etc/gpt-run/run.yaml"]
    assert trainer["resources"]["limits"] == {"nvidia.com/gpu": 1}


def test_switched_everything_asked_for_is_there(chart: Chart) -> None:
    job = chart.one("PyTorchJob", values=ALL)
    policy = job["spec"]["runPolicy"]
    assert job["spec"]["nprocPerNode"] == "8"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert job["metadata"]["annotations"]["gptrun.io/gpu-price-per-hour"] == "0.5 EUR"
    assert policy["schedulingPolicy"] == {"minAvailable": 2, "priorityClass": "training"}
    # A number past a million, and one that is zero, are what they were.
    assert (policy["activeDeadlineSeconds"], policy["ttlSecondsAfterFinished"]) == (10000000, 0)
    assert (policy["backoffLimit"], policy["suspend"]) == (0, True)
    pod = worker(job)["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "pool": "a"}
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
    assert (pod["schedulerName"], pod["priorityClassName"]) == ("gang", "training")
    assert pod["terminationGracePeriodSeconds"] == 300
    assert environment(worker(job))["NCCL_DEBUG"] == "INFO"
    assert container(worker(job))["resources"]["requests"]["nvidia.com/gpu"] == 8


def test_switched_to_cpus_and_to_ray(chart: Chart) -> None:
    on_cpus = chart.one("PyTorchJob", values={"gpu": {"perWorker": None}})
    assert on_cpus["spec"]["nprocPerNode"] == "1"
    assert "limits" not in container(worker(on_cpus))["resources"]
    assert "PyTorchJob/demo" not in chart.kinds({"backend": "rayjob"})


def test_a_digest_wins_over_the_tag(chart: Chart) -> None:
    digest = "sha256:" + "0" * 64
    job = chart.one("PyTorchJob", values={"image": {"repository": "r/t", "tag": "1", "digest": digest}})
    assert container(worker(job))["image"] == f"r/t@{digest}"
    job = chart.one("PyTorchJob", values={"image": {"repository": "r/t", "tag": "1"}})
    assert container(worker(job))["image"] == "r/t:1"


def test_refused_contradictory_bounds(chart: Chart) -> None:
    assert "workers.min: 3 is more than workers.max 2" in chart.refusal({"workers": {"min": 3, "max": 2}})
    assert "workers.replicas: 9 is not between workers.min 1 and workers.max 4" in chart.refusal(
        {"workers": {"replicas": 9}}
    )


def test_refused_gpus_in_two_places(chart: Chart) -> None:
    said = chart.refusal({"workers": {"resources": {"limits": {"nvidia.com/gpu": 1}}}})
    assert "workers.resources.limits: holds nvidia.com/gpu, which gpu.perWorker decides" in said
    assert "gpu.perWorker is null" in chart.refusal({"gpu": {"perWorker": None, "product": "NVIDIA-H20"}})


def test_refused_a_gang_without_its_scheduler(chart: Chart) -> None:
    assert "scheduling.gang: needs a gang scheduler" in chart.refusal({"scheduling": {"gang": True}})
