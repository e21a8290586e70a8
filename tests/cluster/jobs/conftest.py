"""An API server for `gpt-run job` and `gpt-run status RELEASE`, and commands that are given to it.

No operator and no kubelet runs: what they would write, `StandIns` writes. tests/cluster/test_jobs.py has the whole.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from typer.testing import CliRunner

from operators import crd
from tests.cluster.api_server import ApiServer, api_server, crd_files, etcd, own_address
from tests.cluster.stand_ins import Kubelet, StandIns
from tests.cluster.tools import ToolMissing, tool
from trainer.cli.main import app
from trainer.elastic.status import RunStatus, StatusServer
from trainer.errors import EXIT_USER_ERROR, UserError

CHART = Path(__file__).parents[3] / "charts" / "gpt-run"
ESTABLISHED_SECONDS = 20
# The first time an API server is compiled.
MARKS = [pytest.mark.cluster, pytest.mark.timeout(40 * 60)]


@dataclass(frozen=True)
class Result:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


GptRun = Callable[..., Result]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, ApiServer]]:
    """An API server that knows the operators' kinds, and one that knows none of them."""
    folder = tmp_path_factory.mktemp("api")
    try:
        tool("etcd"), tool("kube-apiserver"), tool("helm"), crd_files()
    except ToolMissing as error:
        pytest.skip(f"no API server on this machine: {error}")
    with etcd(folder) as url, api_server(folder / "full", url) as full, api_server(folder / "bare", url) as bare:
        install_crds(client_of(full))
        yield full, bare


def client_of(server: ApiServer) -> client.ApiClient:
    """The test's own client, as administrator."""
    return config.new_client_from_config(str(server.kubeconfig()))


def install_crds(api: client.ApiClient) -> None:
    """Make the kinds known, and wait until they are served."""
    extensions = client.ApiextensionsV1Api(api)
    for definition in (*(yaml.safe_load(file.read_text()) for file in crd_files()), crd.document()):
        extensions.create_custom_resource_definition(definition)
        name = definition["metadata"]["name"]
        deadline = time.monotonic() + ESTABLISHED_SECONDS
        while not established(extensions.read_custom_resource_definition(name)):
            assert time.monotonic() < deadline, f"{name} is not served"
            time.sleep(0.1)


def established(definition: Any) -> bool:
    """Whether objects of this kind may be made."""
    conditions = definition.status.conditions or []
    return any(one.type == "Established" and one.status == "True" for one in conditions)


@pytest.fixture(scope="module")
def kubelet(servers: tuple[ApiServer, ApiServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    """Of the one node."""
    kubelet = Kubelet(tmp_path_factory.mktemp("kubelet"))
    StandIns(client_of(servers[0]), "default").node(kubelet)
    yield kubelet
    kubelet.close()


@pytest.fixture
def stand_ins(servers: tuple[ApiServer, ApiServer]) -> Iterator[StandIns]:
    """In a namespace of its own."""
    api = client_of(servers[0])
    namespace = f"test-{secrets.token_hex(4)}"
    client.CoreV1Api(api).create_namespace({"metadata": {"name": namespace}})
    yield StandIns(api, namespace)
    api.close()


@pytest.fixture
def gpt_run(servers: tuple[ApiServer, ApiServer], stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch) -> GptRun:
    """Runs a command in that namespace, with helm on PATH."""
    monkeypatch.setenv("KUBECONFIG", str(servers[0].kubeconfig()))
    monkeypatch.setenv("PATH", str(tool("helm").parent), prepend=":")

    def run(*words: str) -> Result:
        result = CliRunner().invoke(app, [*words, "--namespace", stand_ins.namespace])
        if isinstance(result.exception, UserError):
            return Result(EXIT_USER_ERROR, result.stdout, f"error: {result.exception}")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def status() -> Iterator[tuple[RunStatus, str, int]]:
    """A coordinator's status where an API server may ask for it: (status, address, port)."""
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but the loopback's, to which an API server passes nothing on")
    status = RunStatus()
    server = StatusServer(status, address, 0)
    yield status, address, server.port
    server.close()


def submit(gpt_run: GptRun, name: str, *words: str) -> Result:
    """Submit the small CPU run of the chart, without its preflight, which nobody would run here."""
    values = ["-f", str(CHART / "values-cpu.yaml"), "--set", "store.url=s3://bucket/runs"]
    settings = ["--set", "jobs.preflight.enabled=false", "--set", "jobs.prepare.enabled=false"]
    settings += ["--set", "run.data.train=s3://bucket/data"]
    return gpt_run("job", "submit", name, "--chart", str(CHART), *values, *settings, *words)


def worker_replicas(stand_ins: StandIns, name: str) -> int:
    """By the scale subresource."""
    place = ("kubeflow.org", "v1", stand_ins.namespace, "pytorchjobs", name)
    return int(stand_ins.custom.get_namespaced_custom_object_scale(*place)["spec"]["replicas"])
