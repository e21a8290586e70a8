"""The operator as a process, with its own rights, against a real API server, scheduler and training operator.

Nodes and pods only pretend (KWOK), and coordinators say what tests have them say (tests/cluster/desks.py).
"""

from __future__ import annotations

import random
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.cluster.operator_cluster import JOBS, RUNS, SECONDS, Cluster, member
from tests.cluster.operator_plane import (
    NAMESPACE,
    RIGHTS,
    USER,
    Process,
    plane,
    pytorchjob,
    rayjob,
    training_run,
    wait_until,
)
from tests.cluster.tools import ToolMissing

QUICK = ("--poll-seconds=1", "--status-interval-seconds=5")
# The first time an API server is compiled.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(40 * 60)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The plane with four nodes, and no operator yet."""
    try:
        with plane(tmp_path_factory.mktemp("plane")) as made:
            made.add_nodes(*(f"node-{i}" for i in range(4)))
            yield Cluster(made)
    except ToolMissing as error:
        pytest.skip(f"no control plane on this machine: {error}")


@pytest.fixture(scope="module")
def operator(cluster: Cluster) -> Iterator[Process]:
    """One operator, for the tests that need no more."""
    yield from running(cluster, "one")


@pytest.fixture
def looked_after(operator: Process) -> Process:
    """The operator, which no test before has brought down."""
    assert operator.popen.poll() is None, operator.said()
    return operator


def running(cluster: Cluster, name: str, *words: str) -> Iterator[Process]:
    process = cluster.plane.start_operator(name, *QUICK, *words)
    leads(process)
    yield process
    process.end()
    assert process.popen.returncode == 0, process.said()
    assert not [line for line in process.lines() if "error" in line], process.said()


def metric(process: Process, name: str) -> float:
    """Of its /metrics; 0 where it is absent."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def leads(process: Process) -> None:
    """Wait until it acts."""
    wait_until(lambda: metric(process, "gptrun_operator_leader") == 1, 90, process.said)


def test_a_job_that_ran_before_is_adopted_and_left_as_it_is(cluster: Cluster, looked_after: Process) -> None:
    cluster.create(pytorchjob("adopted"))
    cluster.until(lambda: cluster.running("adopted") == 2, "its pods do not run")
    before = cluster.get(JOBS, "adopted")
    cluster.create(training_run("adopted"))
    cluster.until(lambda: cluster.status("adopted").get("step"), lambda: str(cluster.status("adopted")))
    after, run = cluster.get(JOBS, "adopted"), cluster.get(RUNS, "adopted")
    assert after["spec"] == before["spec"]
    for found in (after, run):
        assert "finalizers" not in found["metadata"]
        assert "annotations" not in found["metadata"]
    status = run["status"]
    assert (status["phase"], status["workers"], status["observedGeneration"]) == ("Running", 2, 1)
    assert {one["type"]: one["status"] for one in status["conditions"]} == {
        "Ready": "True",
        "Progressing": "True",
        "Checkpointed": "True",
        "Healthy": "True",
        "Succeeded": "False",
        "Failed": "False",
    }
    assert cluster.events("adopted") == []


def test_scale_and_bounds(cluster: Cluster, looked_after: Process) -> None:
    cluster.run("scaled")
    group, version, plural = RUNS
    cluster.custom.patch_namespaced_custom_object_scale(
        group, version, NAMESPACE, plural, "scaled", {"spec": {"replicas": 3}}
    )
    cluster.until(lambda: cluster.running("scaled") == 3, "three pods do not run")
    cluster.until(lambda: cluster.status("scaled").get("workers") == 3, "status does not follow")
    cluster.until(lambda: "ScaleRequested" in dict(cluster.events("scaled")), "no Event")
    assert dict(cluster.events("scaled"))["ScaleRequested"] == "spec.replicas is 3: 2 -> 3 workers"

    cluster.patch(RUNS, "scaled", {"spec": {"replicas": None}})
    cluster.set_replicas("scaled", 7)
    cluster.until(lambda: cluster.replicas("scaled") == 4, "not set back")
    cluster.until(lambda: "OutOfBounds" in dict(cluster.events("scaled")), "no Event")
    assert "was set to 7 workers, spec.elastic allows 1 to 4" in dict(cluster.events("scaled"))["OutOfBounds"]


def test_suspend_and_resume(cluster: Cluster, looked_after: Process) -> None:
    cluster.run("paused")
    cluster.patch(RUNS, "paused", {"spec": {"suspend": True}})
    cluster.until(lambda: cluster.suspended("paused") and not cluster.pods("paused"), "not suspended")
    cluster.until(lambda: cluster.status("paused")["phase"] == "Suspended", lambda: str(cluster.status("paused")))
    assert cluster.status("paused")["suspension"]["reason"] == "Suspended"
    step = cluster.status("paused")["step"]
    assert step > 0, "what the coordinator said stays"
    cluster.patch(RUNS, "paused", {"spec": {"suspend": False}})
    cluster.until(lambda: cluster.running("paused") == 2, "not resumed")
    cluster.until(lambda: cluster.status("paused").get("suspension") is None, "the suspension is not forgotten")
    cluster.until(lambda: len(cluster.events("paused")) == 2, lambda: str(cluster.events("paused")))
    assert {reason for reason, _ in cluster.events("paused")} == {"SuspendRequested", "ResumeRequested"}


def test_pods_of_a_node_that_is_gone_are_deleted_by_force(cluster: Cluster, looked_after: Process) -> None:
    cluster.plane.add_nodes("spare")
    cluster.run("unlucky", nodeLoss={"seconds": 1})
    lost = cluster.pods("unlucky")[0]
    others = [pod.metadata.name for pod in cluster.pods("unlucky") if pod.metadata.name != lost.metadata.name]
    cluster.plane.say("unlucky", members=[member(name) for name in others])
    cluster.core.delete_node(lost.spec.node_name)
    cluster.until(
        lambda: lost.metadata.uid not in {pod.metadata.uid for pod in cluster.pods("unlucky")}, "it is still there"
    )
    cluster.until(lambda: cluster.running("unlucky") == 2, "no other one came in its place")
    (event,) = [text for reason, text in cluster.events("unlucky") if reason == "NodeLost"]
    assert f"pod {lost.metadata.name} deleted by force" in event
    cluster.plane.say("unlucky")


def test_a_silent_launcher_is_replaced(cluster: Cluster, looked_after: Process) -> None:
    cluster.run("hangs", hang={"seconds": 3})
    before = {pod.metadata.name: pod.metadata.uid for pod in cluster.pods("hangs")}
    cluster.plane.say("hangs", members=[member("hangs-worker-0")])
    began = time.monotonic()
    cluster.until(
        lambda: (
            {pod.metadata.name: pod.metadata.uid for pod in cluster.pods("hangs")}.get("hangs-worker-1")
            not in (None, before["hangs-worker-1"])
        ),
        "it is not replaced",
    )
    print(f"replaced {time.monotonic() - began:.1f} s after its last word; hang.seconds is 3")
    cluster.plane.say("hangs")
    assert "hangs-worker-0" in before
    assert cluster.core.read_namespaced_pod("hangs-worker-0", NAMESPACE).metadata.uid == before["hangs-worker-0"]
    cluster.until(lambda: "LauncherSilent" in dict(cluster.events("hangs")), "no Event")


def test_capacity_is_followed(cluster: Cluster, looked_after: Process) -> None:
    """Pods that ask for more GPUs than nodes have left wait; then there is a node more."""
    cluster.plane.add_nodes("large", gpus=32)
    cluster.create(pytorchjob("elastic", 3, gpus=16))
    capacity = {"enabled": True, "pendingSeconds": 3, "growSeconds": 1}
    cluster.create(training_run("elastic", elastic={"min": 1, "max": 4, "capacity": capacity}))
    cluster.until(lambda: cluster.replicas("elastic") == 2, lambda: str(cluster.status("elastic")))
    cluster.until(lambda: "PodsPending" in dict(cluster.events("elastic")), "no Event")
    assert "1 pods found no node" in dict(cluster.events("elastic"))["PodsPending"]
    cluster.plane.add_nodes("larger", gpus=32)
    began = time.monotonic()
    cluster.until(lambda: cluster.replicas("elastic") == 4, lambda: str(cluster.status("elastic")), 2 * SECONDS)
    print(f"grown {time.monotonic() - began:.1f} s after the node came; growSeconds is 1")
    cluster.until(lambda: cluster.running("elastic") == 4, "they do not run")
    assert "2 -> 4 workers" in dict(cluster.events("elastic"))["RoomAppeared"]


def test_a_config_that_cannot_work_suspends_the_run(cluster: Cluster, looked_after: Process) -> None:
    cluster.run("broken")
    ends(cluster, "broken-worker-0", 2, "error: run.yaml: model.depth: 0 is not > 0")
    cluster.until(lambda: cluster.suspended("broken"), lambda: str(cluster.status("broken")))
    cluster.until(lambda: cluster.status("broken")["phase"] == "Suspended", lambda: str(cluster.status("broken")))
    status, reason, message = cluster.condition("broken", "Healthy")
    assert (status, reason) == ("False", "ConfigInvalid")
    assert "model.depth: 0 is not > 0" in message
    cluster.until(lambda: "ConfigInvalid" in dict(cluster.events("broken")), "no Event")
    assert "model.depth" in dict(cluster.events("broken"))["ConfigInvalid"]
    # Its template is mended, and it is tried again.
    template = {"metadata": {"annotations": {"mended": "yes"}}}
    cluster.patch(JOBS, "broken", {"spec": {"pytorchReplicaSpecs": {"Worker": {"template": template}}}})
    cluster.until(lambda: not cluster.suspended("broken"), lambda: str(cluster.status("broken")))


def ends(cluster: Cluster, pod: str, code: int, message: str) -> None:
    """The kubelet's word that a container ended and was started again."""
    now = datetime.now(UTC).isoformat()
    ended = {"exitCode": code, "finishedAt": now, "startedAt": now, "message": message, "reason": "Error"}
    status = {
        "name": "pytorch",
        "image": "trainer",
        "imageID": "",
        "ready": False,
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    cluster.core.patch_namespaced_pod_status(pod, NAMESPACE, {"status": {"containerStatuses": [status]}})


def test_a_rayjob_is_scaled_through_its_run(cluster: Cluster, looked_after: Process) -> None:
    """KubeRay does not follow its RayJob's number of workers, so the RayCluster has to be told as well."""
    cluster.create(rayjob("rays"))
    body = rayjob("rays")["spec"]["rayClusterSpec"]
    made = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "rays-abcde"}, "spec": body}
    cluster.create(made)
    status = {"rayClusterName": "rays-abcde", "jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
    cluster.custom.patch_namespaced_custom_object_status(
        "ray.io", "v1", NAMESPACE, "rayjobs", "rays", {"status": status}
    )
    cluster.create(training_run("rays", kind="RayJob", replicas=4))

    def workers(kind: str, name: str) -> int:
        spec = cluster.get(("ray.io", "v1", kind), name)["spec"]
        return int((spec.get("rayClusterSpec") or spec)["workerGroupSpecs"][0]["replicas"])

    cluster.until(lambda: workers("rayjobs", "rays") == 4, lambda: str(cluster.status("rays")))
    assert workers("rayclusters", "rays-abcde") == 4
    cluster.until(lambda: "ScaleRequested" in dict(cluster.events("rays")), "no Event")


def test_bad_references_are_conditions(cluster: Cluster, looked_after: Process) -> None:
    cluster.create(training_run("nothing"))
    cluster.create(pytorchjob("abroad"), "elsewhere")
    cluster.create(training_run("abroad"))
    cluster.run("shared")
    cluster.create(training_run("second", job="shared", replicas=4))

    def ready(name: str) -> tuple[str, str, str]:
        return cluster.condition(name, "Ready")

    for name, reason, words in (
        ("nothing", "JobNotFound", "nothing"),
        ("abroad", "JobInOtherNamespace", "elsewhere"),
        ("second", "JobTaken", "shared"),
    ):
        cluster.until(lambda: ready(name)[:2] == ("False", reason), lambda: str(ready(name)))  # noqa: B023
        assert words in ready(name)[2]
    assert ready("shared")[0] == "True"
    assert cluster.replicas("shared") == 2
    # The first one goes, and the second has the say.
    cluster.custom.delete_namespaced_custom_object(*RUNS[:2], NAMESPACE, RUNS[2], "shared")
    cluster.until(lambda: cluster.replicas("shared") == 4, lambda: str(cluster.status("second")))


def test_a_deleted_run_leaves_its_job_and_says_so(cluster: Cluster, looked_after: Process) -> None:
    cluster.run("left")
    cluster.custom.delete_namespaced_custom_object(*RUNS[:2], NAMESPACE, RUNS[2], "left")
    cluster.until(lambda: "TrainingRunDeleted" in dict(cluster.events("left")), "no Event")
    assert cluster.running("left") == 2


def test_a_right_that_is_missing_is_named(cluster: Cluster, looked_after: Process) -> None:
    rights = client.RbacAuthorizationV1Api(cluster.api)
    cluster.run("forbidden")
    less = [
        rule if rule["resources"] != ["pytorchjobs"] else {**rule, "verbs": ["get", "list", "watch"]} for rule in RIGHTS
    ]
    try:
        rights.patch_cluster_role(USER, {"rules": less})
        cluster.patch(RUNS, "forbidden", {"spec": {"replicas": 3}})
        cluster.until(lambda: cluster.condition("forbidden", "Healthy")[1] == "Forbidden", "not said", 2 * SECONDS)
        message = cluster.condition("forbidden", "Healthy")[2]
        assert 'cannot patch resource "pytorchjobs"' in message
    finally:
        rights.patch_cluster_role(USER, {"rules": RIGHTS})
    cluster.until(lambda: cluster.replicas("forbidden") == 3, "not tried again", 2 * SECONDS)
    cluster.until(lambda: cluster.condition("forbidden", "Healthy")[0] == "True", "the condition stays")


def test_a_kind_whose_definition_goes_and_comes_back(cluster: Cluster, looked_after: Process) -> None:
    extensions = client.ApiextensionsV1Api(cluster.api)
    definition = extensions.read_custom_resource_definition("rayjobs.ray.io", _preload_content=False).json()
    extensions.delete_custom_resource_definition("rayjobs.ray.io")
    try:
        cluster.create(training_run("unknown", kind="RayJob"))
        cluster.until(lambda: cluster.condition("unknown", "Ready")[1] == "KindNotServed", "not said", 2 * SECONDS)
    finally:
        content = {key: definition[key] for key in ("apiVersion", "kind", "spec")}
        content["metadata"] = {"name": "rayjobs.ray.io", "annotations": definition["metadata"].get("annotations", {})}
        cluster.until(lambda: not exists(extensions, "rayjobs.ray.io"), "it does not go")
        extensions.create_custom_resource_definition(content)

    def create() -> bool:
        try:
            cluster.create(rayjob("unknown"))
        except ApiException:
            return False
        return True

    cluster.until(create, "the kind is not served")
    cluster.until(lambda: cluster.condition("unknown", "Ready")[0] == "True", "not found again", 2 * SECONDS)
    assert looked_after.popen.poll() is None


def exists(extensions: client.ApiextensionsV1Api, name: str) -> bool:
    try:
        extensions.read_custom_resource_definition(name)
    except ApiException:
        return False
    return True


def test_the_api_server_goes_and_comes_back(cluster: Cluster, looked_after: Process) -> None:
    cluster.run("outage")
    cluster.plane.stop_api_server()
    time.sleep(8)
    assert looked_after.popen.poll() is None
    cluster.plane.start_api_server()
    cluster.patch(RUNS, "outage", {"spec": {"replicas": 3}})
    began = time.monotonic()
    cluster.until(lambda: cluster.replicas("outage") == 3, looked_after.said, 2 * SECONDS)
    print(f"acts {time.monotonic() - began:.1f} s after the API server's return")
    assert looked_after.popen.poll() is None


def test_a_roll_out_keeps_control(cluster: Cluster, operator: Process) -> None:
    """Two replicas, replaced one after the other: in each gap a change has to be made."""
    cluster.run("rolled")
    second = cluster.plane.start_operator("two", *QUICK)
    wait_until(lambda: any("stands by" in line["message"] for line in second.lines()) or synced(second), 90, "not warm")
    time.sleep(3)
    gaps = [taken_over(operator, second, signal.SIGTERM)]
    third = cluster.plane.start_operator("three", *QUICK)
    wait_until(lambda: synced(third), 90, "not warm")
    time.sleep(3)
    gaps.append(taken_over(second, third, signal.SIGKILL))
    print(f"nobody held the Lease for {gaps[0]:.2f} s in a roll-out, and {gaps[1]:.2f} s after a SIGKILL")
    assert gaps[0] < 5
    cluster.patch(RUNS, "rolled", {"spec": {"replicas": 3}})
    cluster.until(lambda: cluster.replicas("rolled") == 3, third.said)
    third.end()


def taken_over(leader: Process, standby: Process, number: int) -> float:
    """End the one; seconds until the other acts."""
    assert metric(leader, "gptrun_operator_leader") == 1
    gone = time.monotonic()
    leader.popen.send_signal(number)
    wait_until(lambda: metric(standby, "gptrun_operator_leader") == 1, 30, standby.said)
    seconds = time.monotonic() - gone
    leader.popen.wait(20)
    return seconds


def synced(process: Process) -> bool:
    """Whether its caches are full."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{process.port}/healthz", timeout=5).close()
    except OSError:
        return False
    return True


def test_kills_lose_and_double_nothing(cluster: Cluster, operator: Process) -> None:
    """Every change is asked for once and made once, whenever the operator died: each makes one more generation of the
    job. The API server's audit log has an attempt that a kill cut off as failed, though it was done."""
    operator.end()
    seed = random.Random(1)
    before = len(cluster.plane.actions())
    process = cluster.plane.start_operator("killed", *QUICK)
    leads(process)
    cluster.run("killed")
    generation = cluster.get(JOBS, "killed")["metadata"]["generation"]
    wanted: Counter[str] = Counter()
    for turn in range(4):
        replicas = 3 if turn % 2 == 0 else 2
        cluster.patch(RUNS, "killed", {"spec": {"replicas": replicas}})
        wanted["patch pytorchjobs/killed"] += 1
        time.sleep(seed.uniform(0, 0.3))
        process.end(signal.SIGKILL)
        process = cluster.plane.start_operator("killed", *QUICK)
        cluster.until(lambda: cluster.replicas("killed") == replicas, process.said)  # noqa: B023
    process.end()
    found = Counter(
        f"{entry['verb']} {entry['objectRef']['resource']}/{entry['objectRef']['name']}"
        for entry in cluster.plane.actions()[before:]
        if entry["objectRef"]["name"] == "killed"
    )
    assert cluster.get(JOBS, "killed")["metadata"]["generation"] == generation + wanted.total()
    assert not found - wanted, found
