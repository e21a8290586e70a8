"""A cluster whose operators are too old: what is installed there knows the kinds, but not all that the chart asks for.

On an API server alone, which is what refuses.
"""

from __future__ import annotations

import copy
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from typer.testing import CliRunner

from tests.cluster.api_server import ApiServer, api_server, crd_files, etcd
from tests.cluster.tools import ToolMissing, tool
from trainer.cli.main import app
from trainer.errors import UserError

CHART = Path(__file__).parents[2] / "charts" / "gpt-run"
VALUES = ["--values", str(CHART / "values-cpu.yaml")]
SETTINGS = ["--set", "store.url=s3://bucket/runs", "--set", "jobs.preflight.enabled=false"]
SETTINGS += ["--set", "jobs.prepare.enabled=false", "--set", "run.data.train=s3://bucket/data"]
SERVED_SECONDS = 30
# Its programs may have to be compiled first.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(40 * 60)]
# Kind -> the field of `spec` that versions before the one we need lack, and what is to be installed.
LACKING = {
    "PyTorchJob": ("elasticPolicy", "training operator >= 1.9"),
    "RayJob": ("submitterPodTemplate", "KubeRay >= 1.6"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with the kinds as they were before those fields."""
    folder = tmp_path_factory.mktemp("api")
    try:
        tool("etcd"), tool("kube-apiserver"), tool("helm"), crd_files()
    except ToolMissing as error:
        pytest.skip(f"no API server on this machine: {error}")
    with etcd(folder) as url, api_server(folder / "old", url) as started:
        api = client.ApiextensionsV1Api(config.new_client_from_config(str(started.kubeconfig())))
        for file in crd_files():
            api.create_custom_resource_definition(aged(yaml.safe_load(file.read_text())))
        deadline = time.monotonic() + SERVED_SECONDS
        while not all(map(served, api.list_custom_resource_definition().items)):
            assert time.monotonic() < deadline, "the kinds are not served"
            time.sleep(0.1)
        yield started


def aged(definition: dict[str, Any]) -> dict[str, Any]:
    """A CRD without the field that came later."""
    found = copy.deepcopy(definition)
    field, _ = LACKING[found["spec"]["names"]["kind"]]
    for version in found["spec"]["versions"]:
        del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][field]
    return found


def served(definition: Any) -> bool:
    """Whether objects of the kind may be made."""
    return any(one.type == "Established" and one.status == "True" for one in definition.status.conditions or [])


@pytest.mark.parametrize(("backend", "kind"), [("pytorchjob", "PyTorchJob"), ("rayjob", "RayJob")])
def test_submit_says_which_operator_is_needed(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, backend: str, kind: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig()))
    monkeypatch.setenv("PATH", str(tool("helm").parent), prepend=":")
    words = ["job", "submit", backend, "--chart", str(CHART), "-f", VALUES[1], *SETTINGS, "--set", f"backend={backend}"]
    result = CliRunner().invoke(app, [*words, "--namespace", "default"])
    assert isinstance(result.exception, UserError), result.output
    print(result.exception)
    field, needed = LACKING[kind]
    assert f".spec.{field}" in str(result.exception)
    assert needed in str(result.exception)
    assert left_over(server) == []


@pytest.mark.parametrize(("backend", "kind"), [("pytorchjob", "PyTorchJob"), ("rayjob", "RayJob")])
def test_helm_warns_of_the_field(server: ApiServer, backend: str, kind: str) -> None:
    """Helm has the API server drop what it does not know; a look at the CRD is not the chart's to take."""
    command = [tool("helm"), "--kubeconfig", server.kubeconfig(), "install", f"old-{backend}", CHART]
    settings = [*VALUES, *SETTINGS, "--set", f"backend={backend}"]
    result = subprocess.run([*map(str, command), *settings], capture_output=True, text=True, check=False)
    print(result.stderr)
    assert f'Warning: unknown field "spec.{LACKING[kind][0]}"' in result.stderr.replace("\\", "")


def left_over(server: ApiServer) -> list[str]:
    """Names of what a refused run left."""
    core = client.CoreV1Api(config.new_client_from_config(str(server.kubeconfig())))
    lists: list[Callable[..., Any]] = [core.list_namespaced_config_map, core.list_namespaced_service]
    return [one.metadata.name for list_ in lists for one in list_("default").items if one.metadata.name != "kubernetes"]
