"""The rights that charts/gpt-platform grants its operator, against what the operator asks for: the API server's audit
log has each verb of each request. What is granted and never used is granted for nothing; nothing may be refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from kubernetes import client, utils

from charts.generator.values import PLATFORM
from tests.cluster.operator_cluster import JOBS, RAY_JOBS, RUNS, Cluster, member
from tests.cluster.operator_plane import NAMESPACE, SYSTEM, plane, pytorchjob, rayjob, service_account, training_run
from tests.cluster.tools import ToolMissing, tool

RIGHTS_KINDS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
ELSEWHERE = "elsewhere"
# The first time an API server is compiled.
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(40 * 60)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The plane with four nodes, and no operator."""
    try:
        tool("helm")
        with plane(tmp_path_factory.mktemp("plane")) as made:
            made.add_nodes(*(f"node-{i}" for i in range(4)))
            yield Cluster(made)
    except ToolMissing as error:
        pytest.skip(f"no control plane on this machine: {error}")


@pytest.mark.parametrize(("release", "namespace"), [("everywhere", ""), ("confined", NAMESPACE)])
def test_what_the_chart_grants_is_used_and_enough(cluster: Cluster, release: str, namespace: str) -> None:
    granted = grant(cluster, release, namespace)
    account = f"{release}-operator"
    words = [f"--namespace={namespace}", f"--lease-namespace={SYSTEM}", f"--lease-name={account}"]
    words += ["--poll-seconds=1", "--status-interval-seconds=5"]
    process = cluster.plane.start_operator(account, *words, kubeconfig=cluster.plane.token_kubeconfig(account))
    abroad = f"{release}-abroad"
    cluster.create(pytorchjob(abroad), ELSEWHERE)
    run = training_run(abroad)
    run["metadata"]["namespace"] = ELSEWHERE
    cluster.create(run, ELSEWHERE)

    cluster.run(f"{release}-sized")
    cluster.patch(RUNS, f"{release}-sized", {"spec": {"replicas": 3}})
    cluster.until(lambda: cluster.replicas(f"{release}-sized") == 3, process.said)
    replaces_a_pod(cluster, f"{release}-hangs")
    sizes_a_ray_cluster(cluster, f"{release}-rays")
    deletes_jobs(cluster, f"{release}-job", f"{release}-ray")

    found = cluster.custom.get_namespaced_custom_object(*RUNS[:2], ELSEWHERE, RUNS[2], abroad)
    assert bool(found.get("status")) == (not namespace), "one of a namespace leaves the others alone"
    process.end()
    assert process.popen.returncode == 0, process.said()
    used, refused = asked(cluster, service_account(account))
    assert not refused
    assert used == granted


def grant(cluster: Cluster, release: str, namespace: str) -> set[tuple[str, str]]:
    """Make the chart's account and roles; verbs and resources of the roles."""
    command = [str(tool("helm")), "template", release, str(PLATFORM), "--namespace", SYSTEM]
    command += ["--set", f"operator.namespace={namespace}"]
    command += ["--kube-version", client.VersionApi(cluster.api).get_code().git_version]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    documents = [one for one in yaml.safe_load_all(rendered) if one and one["kind"] in RIGHTS_KINDS]
    operators = [one for one in documents if one["metadata"]["labels"].get("app.kubernetes.io/component") == "operator"]
    found: set[tuple[str, str]] = set()
    for document in operators:
        utils.create_from_dict(cluster.api, document)
        for rule in document.get("rules", ()):
            found |= {(verb, resource) for verb in rule["verbs"] for resource in rule["resources"]}
    return found


def replaces_a_pod(cluster: Cluster, name: str) -> None:
    """A launcher is silent."""
    cluster.run(name, hang={"seconds": 3})
    before = cluster.core.read_namespaced_pod(f"{name}-worker-1", NAMESPACE).metadata.uid
    cluster.plane.say(name, members=[member(f"{name}-worker-0")])
    cluster.until(lambda: before not in {pod.metadata.uid for pod in cluster.pods(name)}, "it is not replaced")
    cluster.plane.say(name)


def sizes_a_ray_cluster(cluster: Cluster, name: str) -> None:
    """A RayJob that has one is scaled."""
    cluster.create(rayjob(name))
    body = rayjob(name)["spec"]["rayClusterSpec"]
    made = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": f"{name}-abcde"}, "spec": body}
    cluster.create(made)
    ends(cluster, RAY_JOBS, name, {"rayClusterName": f"{name}-abcde", "jobDeploymentStatus": "Running"})
    cluster.create(training_run(name, kind="RayJob", replicas=4))

    def workers() -> int:
        return int(
            cluster.get(("ray.io", "v1", "rayclusters"), f"{name}-abcde")["spec"]["workerGroupSpecs"][0]["replicas"]
        )

    cluster.until(lambda: workers() == 4, lambda: str(cluster.status(name)))


def deletes_jobs(cluster: Cluster, job: str, ray: str) -> None:
    """Those that are complete, once their runs say so."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    condition = {"type": "Succeeded", "status": "True", "reason": "Done", "message": "done", "lastTransitionTime": now}
    cluster.create(pytorchjob(job))
    ends(cluster, JOBS, job, {"conditions": [condition], "completionTime": now})
    cluster.create(rayjob(ray))
    ends(cluster, RAY_JOBS, ray, {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "endTime": now})
    for name, kind, about in ((job, "PyTorchJob", JOBS), (ray, "RayJob", RAY_JOBS)):
        cluster.create(training_run(name, kind=kind, completion={"deleteAfterSeconds": 1}))
        cluster.until(lambda: not exists(cluster, about, name), lambda: str(cluster.status(name)))  # noqa: B023


def ends(cluster: Cluster, kind: tuple[str, str, str], name: str, status: dict[str, Any]) -> None:
    """A word of the job's own operator."""
    group, version, plural = kind
    cluster.custom.patch_namespaced_custom_object_status(group, version, NAMESPACE, plural, name, {"status": status})


def exists(cluster: Cluster, kind: tuple[str, str, str], name: str) -> bool:
    try:
        cluster.get(kind, name)
    except client.ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


def asked(cluster: Cluster, user: str) -> tuple[set[tuple[str, str]], list[str]]:
    """Verbs and resources of a user's requests, and those that were refused."""
    used: set[tuple[str, str]] = set()
    refused = []
    for line in cluster.plane.audit.read_text().splitlines():
        entry = json.loads(line)
        about = entry.get("objectRef") or {}
        if entry["user"]["username"] != user or "resource" not in about:
            continue
        resource = "/".join(part for part in (about["resource"], about.get("subresource")) if part)
        used.add((entry["verb"], resource))
        if entry["responseStatus"]["code"] in (401, 403):
            refused.append(f"{entry['verb']} {entry['requestURI']}: {entry['responseStatus']}")
    return used, refused
