"""What a user can get wrong: it is said in words, before GPUs are taken where that can be."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.cluster.client import Namespace, Object
from tests.cluster.conftest import MakeRun
from tests.cluster.runs import LABEL, Run, install, settings
from tests.cluster.store import S3, Store
from trainer.errors import EXIT_USER_ERROR

# Long enough for a condition to be there, as the row of the table of tests says.
A_MINUTE = 60
LONG = {"steps": 100_000, "checkpoint": {"every_steps": 5, "keep": {"rolling": 1000}}}
# Names and labels of pods and services are made from a release's name.
LONGEST, TOO_LONG = "a" + "b" * 39, "a" + "b" * 40
NO_PREFLIGHT = {"preflight": {"enabled": False}}


def refusal(make_run: MakeRun, name: str = "demo", **options: Any) -> str:
    """What `helm install` complains about; fails if it does not."""
    with pytest.raises(RuntimeError) as caught:
        make_run(name, **options)
    return str(caught.value)


def assert_nothing_runs(namespace: Namespace) -> None:
    """No object of the run itself was made."""
    for kind in ("pytorchjobs", "rayjobs", "deployments", "services", "configmaps"):
        names = [one["metadata"]["name"] for one in namespace.objects(kind)]
        assert [name for name in names if name not in ("kube-root-ca.crt", "demo-hooks")] == []
    assert namespace.objects("pods", f"{LABEL}=worker") == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gpu": {"perWorker": 0}}, ["/gpu/perWorker", "minimum", "1"]),
        ({"workers": (3, 3, 2)}, ["workers.min: 3 is more than workers.max 2"]),
        ({"lifecycle": {"gracePeriodSeconds": -1}}, ["/lifecycle/gracePeriodSeconds", "minimum", "30"]),
        ({"run": {"elastic": {"grace_seconds": -1}}}, ["/run/elastic/grace_seconds"]),
        ({"run": {"stepz": 3}}, ["/run", "stepz"]),
        ({"run": {"optimizer": {"lr": "1e-4"}}}, ["/run/optimizer", "lr"]),
    ],
    ids=["no GPU", "min over max", "grace below 0", "grace of the run below 0", "unknown key", "text for a number"],
)
def test_wrong_values_are_named(make_run: MakeRun, namespace: Namespace, values: Object, said: list[str]) -> None:
    complaint = refusal(make_run, **values)
    print(complaint[complaint.index("Error") :])
    assert [word for word in said if word not in complaint] == []
    assert_nothing_runs(namespace)


def test_a_name_that_labels_do_not_take(make_run: MakeRun, namespace: Namespace) -> None:
    complaint = refusal(make_run, TOO_LONG)
    print(complaint[complaint.index("Error") :])
    assert f'the release name: "{TOO_LONG}" has 41 characters' in complaint
    assert_nothing_runs(namespace)


def test_the_longest_name_trains(make_run: MakeRun) -> None:
    run = make_run(LONGEST, run={"steps": 5})
    assert run.wait_for_end() == "Succeeded"
    assert sorted(run.store.steps()) == [1, 2, 3, 4, 5]


def test_kuberay_takes_the_longest_name(make_run: MakeRun) -> None:
    run = make_run(LONGEST, backend="rayjob", jobs=NO_PREFLIGHT, lifecycle={"suspend": True})

    def state() -> str | None:
        job = run.namespace.get("rayjob", LONGEST) or {}
        found: str | None = job.get("status", {}).get("jobDeploymentStatus")
        return found if found in ("Suspended", "ValidationFailed") else None

    assert run.namespace.wait("KubeRay's answer", A_MINUTE, state) == "Suspended"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": (2, 1, 11)}, ["11 ranks", "batch.sequences"]),
        ({"run": {"data": {"train": "s3://no-such-bucket/data"}}}, ["s3://no-such-bucket/data"]),
        ({"run": {"model": {"vocab_size": 100}}}, ["vocab", "512", "100"]),
        ({"run": {"resume": "step:7"}}, ["step:7"]),
    ],
    ids=["more ranks than sequences", "missing data", "data of another tokenizer", "no such checkpoint"],
)
def test_the_preflight_fails_in_words(
    make_run: MakeRun, namespace: Namespace, options: dict[str, Any], said: list[str]
) -> None:
    started = time.monotonic()
    complaint = refusal(make_run, **options)
    print(f"after {time.monotonic() - started:.1f} s:", "\n".join(preflights_words(complaint)))
    assert [word for word in said if word not in complaint] == []
    assert preflight_exit_codes(namespace) == [EXIT_USER_ERROR]
    assert_nothing_runs(namespace)


def test_wrong_credentials_end_the_preflight(
    namespace: Namespace, s3: S3, bucket: str, dataset: str, description: dict[str, str]
) -> None:
    wrong = S3(s3.endpoint, s3.access_key, "not-the-key")
    started = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        install(namespace, Store(wrong, bucket, "demo"), description["image"], settings(dataset, {}), (2, 1, 3))
    complaint = str(caught.value)
    print(f"after {time.monotonic() - started:.1f} s:", "\n".join(preflights_words(complaint)))
    assert preflight_exit_codes(namespace) == [EXIT_USER_ERROR]
    assert "credentials" in complaint
    assert_nothing_runs(namespace)


def test_a_missing_secret_is_told(make_run: MakeRun) -> None:
    run = make_run(jobs=NO_PREFLIGHT, store={"url": "s3://bucket/runs", "secretName": "nowhere"})
    reason, message = stuck(run)
    assert reason == "CreateContainerConfigError"
    assert 'secret "nowhere" not found' in message
    assert 'secret "nowhere" not found' in events(run)


def test_a_missing_image_is_told(namespace: Namespace, s3: S3, bucket: str, dataset: str) -> None:
    image = "registry.invalid/trainer:missing"
    store = Store(s3, bucket, "demo")
    run = install(namespace, store, image, settings(dataset, {}), (2, 1, 3), jobs=NO_PREFLIGHT)
    reason, message = stuck(run)
    assert reason in ("ErrImagePull", "ImagePullBackOff")
    assert image in message
    assert f'Failed to pull image "{image}"' in events(run)


def test_the_newer_of_two_releases_has_the_store(make_run: MakeRun) -> None:
    older = make_run(workers=(1, 1, 1), run=LONG)
    older.wait_for_step(1)
    older.namespace.wait("a checkpoint", 120, older.store.checkpoints)
    newer = make_run("other", workers=(1, 1, 1), run={**LONG, "name": older.name})
    newer.wait_for_step(1)

    older.namespace.wait("the older to see it", 120, lambda: older.status().get("last_error"))
    error = older.status()["last_error"]
    print(error["message"])
    assert error["reason"] == "Fenced"
    assert "other-worker-0" in error["message"]
    # The newer is left alone, however often the older's pod is restarted.
    selector = f"app.kubernetes.io/instance={older.name}"
    older.namespace.wait(
        "a restart of the older", 120, lambda: sum(map(restarts, older.namespace.objects("pods", selector)))
    )
    step = newer.status()["step"]
    newer.wait_for_step(step + 10)
    assert [claim["hosts"] for claim in older.store.claims()] == [["demo-worker-0"], ["other-worker-0"]]
    assert newer.status()["last_error"] is None


def test_helm_test_looks_again(make_run: MakeRun) -> None:
    run = make_run(run=LONG)
    run.wait_for_step(1)
    said = run.namespace.helm("test", run.name)
    print(said)
    assert re.search(r"Phase: +Succeeded", said)

    run.namespace.apply([S3(run.store.s3.endpoint, run.store.s3.access_key, "not-the-key").secret()])
    with pytest.raises(RuntimeError, match="credentials"):
        run.namespace.helm("test", run.name)


def stuck(run: Run) -> tuple[str, str]:
    """(reason, message) of a worker's container that cannot start, told within a minute."""

    def waiting() -> tuple[str, str] | None:
        for pod in run.workers():
            for status in pod["status"].get("containerStatuses", []):
                state = status["state"].get("waiting") or {}
                if state.get("message"):
                    return state["reason"], state["message"]
        return None

    started = time.monotonic()
    found = run.namespace.wait("a reason why the worker does not start", A_MINUTE, waiting)
    print(f"after {time.monotonic() - started:.1f} s: {found}")
    return found


def events(run: Run) -> str:
    """Messages of all events in the namespace."""
    return "\n".join(one["message"] for one in run.namespace.objects("events"))


def preflights_words(complaint: str) -> list[str]:
    """Its own lines in what helm said."""
    return [line for line in complaint.splitlines() if "error: " in line or line.startswith("  ")]


def preflight_exit_codes(namespace: Namespace) -> list[int]:
    """Of all pods of the preflight Job."""
    pods = namespace.objects("pods", "app.kubernetes.io/component=preflight")
    statuses = [status for pod in pods for status in pod["status"]["containerStatuses"]]
    return [status["state"]["terminated"]["exitCode"] for status in statuses]


def restarts(pod: Object) -> int:
    """How often its containers were started again."""
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))
