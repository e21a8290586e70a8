"""The guards of charts/gpt-platform on a real API server: what would end a run or leave its bounds is refused, in words
that say what to do instead; what belongs to no run is not looked at.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from charts.generator.values import CHART
from tests.cluster.api_charts import connected, install_platform, install_run, refusal, started, wait_for_refusal
from tests.cluster.client import Cluster, Namespace, Object

MIN, MAX = 2, 4
BOUNDS = ["--set", f"workers.min={MIN}", "--set", f"workers.max={MAX}", "--set", "workers.replicas=3"]
SUSPEND = '--type=merge -p \'{"spec":{"runPolicy":{"suspend":true}}}\''
# The first time an API server is compiled.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(40 * 60)]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with the platform's chart as it is by default."""
    folder = tmp_path_factory.mktemp("api")
    with started(folder, "guarded") as (server,):
        cluster = connected(server, folder)
        install_platform(cluster)
        namespace = cluster.make_namespace("probe")
        install_run(namespace, "probe", *BOUNDS)
        wait_for_refusal(namespace, "scale", "pytorchjob/probe", "--replicas=0")
        wait_for_refusal(namespace, "label", "pytorchjob/probe", "gptrun.io/run-")
        yield cluster


@pytest.fixture
def namespace(guarded: Cluster, request: pytest.FixtureRequest) -> Namespace:
    """With the run `demo`, 3 workers of 2 to 4, and `foreign`, the same job without our labels."""
    made = guarded.make_namespace(request.node.name.removeprefix("test_"))
    install_run(made, "demo", *BOUNDS)
    made.apply([foreign(made)])
    return made


def foreign(namespace: Namespace) -> Object:
    job = copy.deepcopy(namespace.get("pytorchjob", "demo"))
    assert job is not None
    return {**job, "metadata": {"name": "foreign"}}


def patch(namespace: Namespace, spec: Any, job: str = "demo") -> tuple[str, ...]:
    return ("patch", f"pytorchjob/{job}", "--type=merge", "--patch", json.dumps({"spec": spec}))


def workers(replicas: int) -> Object:
    return {"pytorchReplicaSpecs": {"Worker": {"replicas": replicas}}}


def replicas(namespace: Namespace, job: str = "demo") -> int:
    found = namespace.get("pytorchjob", job)
    assert found is not None
    return int(found["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"])


def says_suspend(said: str, namespace: Namespace) -> bool:
    return (
        "0 workers would end run demo as Succeeded, for good" in said
        and f"gpt-run job suspend demo -n {namespace.name}" in said
        and f"kubectl patch pytorchjob demo -n {namespace.name} {SUSPEND}" in said
    )


def test_zero_by_scale_is_refused_and_suspending_is_named(namespace: Namespace) -> None:
    said = refusal(namespace, "scale", "pytorchjob/demo", "--replicas=0")
    assert says_suspend(said, namespace), said
    assert replicas(namespace) == 3


def test_the_command_that_the_refusal_names_works(namespace: Namespace) -> None:
    namespace.kubectl("patch", "pytorchjob", "demo", "--type=merge", "-p", SUSPEND.split("-p ")[1].strip("'"))
    job = namespace.get("pytorchjob", "demo")
    assert job is not None
    assert job["spec"]["runPolicy"]["suspend"] is True
    assert replicas(namespace) == 3


@pytest.mark.parametrize("number", [MIN - 1, MAX + 1, 100])
def test_out_of_bounds_is_refused_by_scale_and_by_patch(namespace: Namespace, number: int) -> None:
    words = f"run demo has {MIN} to {MAX} workers (elasticPolicy), not {number}: choose a number within"
    assert words in refusal(namespace, "scale", "pytorchjob/demo", f"--replicas={number}")
    assert words in refusal(namespace, *patch(namespace, workers(number)))
    assert replicas(namespace) == 3


@pytest.mark.parametrize("number", [MIN, MAX])
def test_within_bounds_passes(namespace: Namespace, number: int) -> None:
    namespace.kubectl("scale", "pytorchjob/demo", f"--replicas={number}")
    assert replicas(namespace) == number
    namespace.kubectl(*patch(namespace, workers(3)))
    assert replicas(namespace) == 3


def test_zero_by_patch_edit_and_apply_is_refused(namespace: Namespace) -> None:
    assert says_suspend(refusal(namespace, *patch(namespace, workers(0))), namespace)
    job = namespace.get("pytorchjob", "demo")
    assert job is not None
    job["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] = 0
    # What `kubectl edit` sends at the end.
    assert says_suspend(refusal(namespace, "replace", "--filename=-", stdin=json.dumps(job)), namespace)
    new = {**job, "metadata": {"name": "demo-2", "labels": job["metadata"]["labels"]}}
    said = refusal(namespace, "create", "--filename=-", stdin=json.dumps(new))
    assert "0 workers would end run demo-2" in said
    assert replicas(namespace) == 3


def test_other_bounds_must_hold_the_workers(namespace: Namespace) -> None:
    said = refusal(namespace, *patch(namespace, {"elasticPolicy": {"maxReplicas": 2}}))
    assert "run demo has 2 to 2 workers (elasticPolicy), not 3: scale first" in said
    assert f"kubectl scale tr/demo -n {namespace.name} --replicas=2 (pytorchjob/demo where" in said
    said = refusal(namespace, *patch(namespace, {"elasticPolicy": {"minReplicas": 4}}))
    assert "run demo has 4 to 4 workers (elasticPolicy), not 3: scale first" in said
    assert "--replicas=4 (" in said
    namespace.kubectl(*patch(namespace, {"elasticPolicy": {"maxReplicas": 9}}))
    namespace.kubectl("scale", "pytorchjob/demo", "--replicas=9")
    assert replicas(namespace) == 9


def test_the_label_stays(namespace: Namespace) -> None:
    said = refusal(namespace, "label", "pytorchjob/demo", "gptrun.io/run-")
    assert "label gptrun.io/run says that demo is a run" in said
    assert "to be rid of the run, delete the job" in said
    without = json.dumps({"metadata": {"labels": None}})
    assert "gptrun.io/run" in refusal(namespace, "patch", "pytorchjob/demo", "--type=merge", "--patch", without)
    namespace.kubectl("label", "pytorchjob/demo", "team=ml")
    namespace.kubectl("delete", "pytorchjob/demo")


@pytest.mark.parametrize("number", [0, 1, 100])
def test_jobs_of_others_are_not_looked_at(namespace: Namespace, number: int) -> None:
    namespace.kubectl("scale", "pytorchjob/foreign", f"--replicas={number}")
    assert replicas(namespace, "foreign") == number
    namespace.kubectl(*patch(namespace, workers(7), "foreign"))
    namespace.kubectl(*patch(namespace, workers(0), "foreign"))
    assert replicas(namespace) == 3


def test_a_namespace_without_a_run_is_not_looked_at(guarded: Cluster, namespace: Namespace) -> None:
    empty = guarded.make_namespace("empty")
    empty.apply([foreign(namespace)])
    empty.kubectl("scale", "pytorchjob/foreign", "--replicas=0")
    assert replicas(empty, "foreign") == 0


def test_what_was_out_of_bounds_before_may_be_suspended_and_set_back(guarded: Cluster, namespace: Namespace) -> None:
    """The label comes last, as it does when the chart is installed beside runs that are there."""
    namespace.kubectl("scale", "pytorchjob/foreign", "--replicas=9")
    namespace.kubectl("label", "pytorchjob/foreign", "gptrun.io/run=foreign")
    namespace.kubectl(*patch(namespace, {"runPolicy": {"suspend": True}}, "foreign"))
    wait_for_refusal(namespace, "scale", "pytorchjob/foreign", "--replicas=10")
    namespace.kubectl("scale", "pytorchjob/foreign", f"--replicas={MAX}")
    assert replicas(namespace, "foreign") == MAX
    assert "foreign has 2 to 4 workers" in refusal(namespace, "scale", "pytorchjob/foreign", "--replicas=9")


def test_status_goes_through(namespace: Namespace) -> None:
    """What the training operator writes is none of the guards' business."""
    status = json.dumps({"status": {"replicaStatuses": {"Worker": {"active": 0}}}})
    namespace.kubectl("patch", "pytorchjob/demo", "--subresource=status", "--type=merge", "--patch", status)


def test_a_shrunk_values_file_is_refused_by_helm_in_the_same_words(namespace: Namespace) -> None:
    """`helm upgrade` keeps a scaled count while its value is the same, so new bounds may leave it outside."""
    namespace.kubectl("scale", "pytorchjob/demo", "--replicas=4")
    bounds = ["--set", "workers.max=3", "--reuse-values", "--no-hooks"]
    with pytest.raises(RuntimeError, match=r"run demo has 2 to 3 workers \(elasticPolicy\), not 4: scale first"):
        namespace.helm("upgrade", "demo", str(CHART), *bounds)
    namespace.kubectl("scale", "pytorchjob/demo", "--replicas=3")
    namespace.helm("upgrade", "demo", str(CHART), *bounds)


def test_warn_lets_through_and_says_it(guarded: Cluster, namespace: Namespace) -> None:
    try:
        install_platform(guarded, {"guards": {"action": "Warn"}})
        namespace.wait("warning", 30, lambda: passes(namespace, "scale", "pytorchjob/demo", "--replicas=9"))
        assert replicas(namespace) == 9
    finally:
        install_platform(guarded)
        wait_for_refusal(namespace, "scale", "pytorchjob/demo", "--replicas=0")


def passes(namespace: Namespace, *arguments: str) -> bool:
    try:
        namespace.kubectl(*arguments)
    except RuntimeError:
        return False
    return True
