"""charts/gpt-platform and charts/gpt-run on an API server alone, for tests of what that refuses, fills in and shows.

No controller runs: nothing starts, and what an operator would write, tests write.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generator.values import CHART, PLATFORM
from tests.cluster.api_server import ApiServer, api_server, crd_files, etcd
from tests.cluster.client import Cluster, Namespace, Object
from tests.cluster.tools import KUEUE, PROMETHEUS_OPERATOR, ToolMissing, module_folder, tool

SYSTEM = "gpt-run-system"
RELEASE = "gpt-platform"
SERVED_SECONDS = 30
# The run of charts/gpt-run on CPUs, with nothing that runs before it.
RUN = ["--values", str(CHART / "values-cpu.yaml"), "--set", "store.url=s3://bucket/runs"]
RUN += ["--set", "run.data.train=s3://bucket/data", "--set", "jobs.prepare.enabled=false", "--no-hooks"]
_KUEUE_KINDS = ("clusterqueues", "localqueues", "resourceflavors")
_MONITORING_KINDS = ("servicemonitors", "prometheusrules")


@contextlib.contextmanager
def started(folder: Path, *names: str) -> Iterator[list[ApiServer]]:
    """API servers that share an etcd and nothing else; a machine that can have none skips the test."""
    try:
        for name in ("etcd", "kube-apiserver", "kubectl", "helm"):
            tool(name)
        crd_files()
    except ToolMissing as error:
        pytest.skip(f"no API server on this machine: {error}")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(etcd(folder))
        yield [stack.enter_context(api_server(folder / name, url)) for name in names]


def connected(server: ApiServer, folder: Path) -> Cluster:
    """The server with the kinds of the training operator and KubeRay."""
    cluster = Cluster(server.kubeconfig(), folder / "kubectl-cache")
    apply_definitions(cluster, [yaml.safe_load(file.read_text()) for file in crd_files()])
    return cluster


def install_platform(cluster: Cluster, values: Object | None = None) -> None:
    """Install charts/gpt-platform in a namespace of its own, and wait until it holds."""
    found = cluster.kubectl("get", "namespace", SYSTEM, "--ignore-not-found")
    if not found:
        cluster.kubectl("create", "namespace", SYSTEM)
    # Helm takes an upgrade without values for one with those of before.
    options = ["--namespace", SYSTEM, "--reset-values", "--values", "-"]
    cluster.run("helm", "upgrade", "--install", RELEASE, str(PLATFORM), *options, stdin=json.dumps(values or {}))
    wait_until_served(cluster, ["trainingruns.gptrun.io"])


def install_run(namespace: Namespace, name: str, *options: str) -> None:
    """Install charts/gpt-run."""
    namespace.helm("install", name, str(CHART), *RUN, *options)


def apply_definitions(cluster: Cluster, definitions: list[Object]) -> None:
    """CustomResourceDefinitions; returns when their kinds are served."""
    for definition in definitions:
        # Too long for the annotation of a client-side apply.
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=json.dumps(definition))
    wait_until_served(cluster, [definition["metadata"]["name"] for definition in definitions])


def wait_until_served(cluster: Cluster, names: list[str]) -> None:
    """Until objects of the kinds may be made. Not by `kubectl wait`, which gives up where there is no status yet."""
    deadline = time.monotonic() + SERVED_SECONDS
    for name in names:
        while conditions(cluster, name).get("Established") != "True":
            assert time.monotonic() < deadline, f"{name} is not served"
            time.sleep(0.1)


def conditions(cluster: Cluster, definition: str) -> dict[str, str]:
    """Type -> status of a CustomResourceDefinition's conditions."""
    status = json.loads(cluster.kubectl("get", "crd", definition, "--output=json")).get("status") or {}
    return {one["type"]: one["status"] for one in status.get("conditions") or []}


def definitions_of_others() -> list[Object]:
    """Of Kueue and the Prometheus operator, as far as the chart makes objects of theirs. Without Kueue's webhook, which
    converts between versions and is not there."""
    kueue = module_folder(KUEUE, "sigs.k8s.io/kueue") / "config" / "components" / "crd" / "bases"
    prometheus = module_folder(PROMETHEUS_OPERATOR, "github.com/prometheus-operator/prometheus-operator")
    files = [kueue / f"kueue.x-k8s.io_{kind}.yaml" for kind in _KUEUE_KINDS]
    folder = prometheus / "example" / "prometheus-operator-crd"
    files += [folder / f"monitoring.coreos.com_{kind}.yaml" for kind in _MONITORING_KINDS]
    definitions: list[dict[str, Any]] = [yaml.load(file.read_text(), Loader=yaml.CSafeLoader) for file in files]
    for definition in definitions:
        definition["spec"].pop("conversion", None)
    return definitions


def refusal(namespace: Namespace, *arguments: str, stdin: str | None = None) -> str:
    """What kubectl complains about."""
    with pytest.raises(RuntimeError) as caught:
        namespace.kubectl(*arguments, stdin=stdin)
    return str(caught.value)


def wait_for_refusal(namespace: Namespace, *arguments: str) -> None:
    """A policy holds a moment after it was made: until then a dry run of what it refuses goes through."""
    deadline = time.monotonic() + SERVED_SECONDS
    while True:
        try:
            namespace.kubectl(*arguments, "--dry-run=server")
        except RuntimeError as error:
            if "ValidatingAdmissionPolicy" in str(error):
                return
        assert time.monotonic() < deadline, "the policy never holds"
        time.sleep(0.1)
