"""`gpt-run job` and `gpt-run status RELEASE` against a real API server.

No operator and no kubelet runs: what they would write, `StandIns` writes. tests/cluster/test_jobs.py has the whole.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from typer.testing import CliRunner

from tests.cluster.api_server import STRANGER, ApiServer, api_server, crd_files, etcd, own_address
from tests.cluster.stand_ins import Kubelet, StandIns
from tests.cluster.tools import ToolMissing, tool
from trainer.cli.main import app
from trainer.elastic.rounds import Member, Round, Rules, Seen, Wait
from trainer.elastic.status import RunStatus, StatusServer
from trainer.errors import EXIT_USER_ERROR, UserError
from trainer.jobs.backends import MARK_ANNOTATION, find_run
from trainer.jobs.cluster import connect
from trainer.jobs.logs import LogFollower

CHART = Path(__file__).parents[2] / "charts" / "gpt-run"
ESTABLISHED_SECONDS = 20
# The first time an API server is compiled.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(40 * 60)]


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
    for file in crd_files():
        definition = yaml.safe_load(file.read_text())
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


def test_submit_makes_the_run_and_the_job_owns_it(gpt_run: GptRun, stand_ins: StandIns) -> None:
    result = submit(gpt_run, "gpt2")
    assert result.code == 0, result.err
    assert "PyTorchJob/gpt2 created" in result.out
    assert "Service/gpt2-coordinator created" in result.out
    job = stand_ins.custom.get_namespaced_custom_object(
        "kubeflow.org", "v1", stand_ins.namespace, "pytorchjobs", "gpt2"
    )
    assert {entry["manager"] for entry in job["metadata"]["managedFields"]} == {"gpt-run"}
    for read, name in (
        (stand_ins.core.read_namespaced_config_map, "gpt2-run"),
        (stand_ins.core.read_namespaced_service, "gpt2-coordinator"),
    ):
        (owner,) = read(name, stand_ins.namespace).metadata.owner_references
        assert owner.uid == job["metadata"]["uid"]

    again = submit(gpt_run, "gpt2")
    assert again.code == 0, again.err
    assert {line.split()[-1] for line in again.out.splitlines()} == {"unchanged"}

    # The number of workers is `scale`'s from then on.
    gpt_run("job", "scale", "gpt2", "1")
    assert submit(gpt_run, "gpt2").code == 0
    assert worker_replicas(stand_ins, "gpt2") == 1

    other = submit(gpt_run, "gpt2", "--set", "run.optimizer.lr=1e-4")
    assert other.code == EXIT_USER_ERROR
    assert "gpt2 is there (PyTorchJob, Pending) with another run file" in other.err


def test_submit_as_a_rayjob_and_as_json(gpt_run: GptRun) -> None:
    result = submit(gpt_run, "ray", "--set", "backend=rayjob", "--json")
    assert result.code == 0, result.err
    objects = {(one["kind"], one["name"]): one["change"] for one in json.loads(result.out)["objects"]}
    assert objects["RayJob", "ray"] == "created"


def test_what_the_api_server_refuses_leaves_nothing_behind(gpt_run: GptRun, stand_ins: StandIns) -> None:
    result = submit(gpt_run, "gpt2", "--set", "monitoring.serviceMonitor.enabled=true")
    assert result.code == EXIT_USER_ERROR
    assert "install the Prometheus operator" in result.err
    assert stand_ins.core.list_namespaced_config_map(stand_ins.namespace).items == []


def test_what_the_chart_refuses_is_said_in_its_words(gpt_run: GptRun) -> None:
    result = submit(gpt_run, "gpt2", "--set", "workers.min=9")
    assert result.code == EXIT_USER_ERROR
    assert "workers.min: 9 is more than workers.max" in result.err


def test_a_namespace_that_is_missing(gpt_run: GptRun, stand_ins: StandIns) -> None:
    stand_ins.core.delete_namespace(stand_ins.namespace)
    stand_ins.namespace = "nowhere"
    result = submit(gpt_run, "gpt2")
    assert result.code == EXIT_USER_ERROR
    assert "kubectl create namespace" in result.err


@pytest.mark.parametrize("ends", [("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")], ids=" ".join)
def test_the_preflight_comes_first(
    gpt_run: GptRun, stand_ins: StandIns, kubelet: Kubelet, ends: tuple[str, ...]
) -> None:
    def preflight() -> None:
        """The Job controller and a kubelet."""
        while not stand_ins.batch.list_namespaced_job(stand_ins.namespace).items:
            time.sleep(0.05)
        labels = {"batch.kubernetes.io/job-name": "gpt2-preflight"}
        stand_ins.pod("gpt2", "gpt2-preflight-x", component="job", **labels)
        if "Failed" in ends:
            end = {"exitCode": 2, "message": "error: s3://bucket/data: no dataset.json"}
            stand_ins.container("gpt2-preflight-x", terminated=end)
        assert jobs(stand_ins) == []
        stand_ins.job_ends("gpt2-preflight", ends)

    thread = threading.Thread(target=preflight)
    thread.start()
    result = submit(gpt_run, "gpt2", "--set", "jobs.preflight.enabled=true")
    thread.join()
    if "Failed" in ends:
        assert result.code == EXIT_USER_ERROR
        assert "gpt2-preflight-x ended with 2: error: s3://bucket/data: no dataset.json" in result.err
        assert jobs(stand_ins) == []
    else:
        assert result.code == 0, result.err
        assert jobs(stand_ins) == ["gpt2"]
        assert stand_ins.core.list_namespaced_config_map(stand_ins.namespace).items[0].metadata.name == "gpt2-run"


def jobs(stand_ins: StandIns) -> list[str]:
    """Names of PyTorchJobs."""
    found = stand_ins.custom.list_namespaced_custom_object("kubeflow.org", "v1", stand_ins.namespace, "pytorchjobs")
    return [item["metadata"]["name"] for item in found["items"]]


def worker_replicas(stand_ins: StandIns, name: str) -> int:
    """By the scale subresource."""
    place = ("kubeflow.org", "v1", stand_ins.namespace, "pytorchjobs", name)
    return int(stand_ins.custom.get_namespaced_custom_object_scale(*place)["spec"]["replicas"])


def test_scale(gpt_run: GptRun, stand_ins: StandIns) -> None:
    stand_ins.pytorchjob("gpt2", replicas=2)
    assert gpt_run("job", "scale", "gpt2", "3").out == "gpt2: 2 workers before, 3 from now on\n"
    assert worker_replicas(stand_ins, "gpt2") == 3
    for wrong, words in (("0", "gpt-run job suspend gpt2"), ("5", "1 to 4 workers")):
        refused = gpt_run("job", "scale", "gpt2", wrong)
        assert refused.code == EXIT_USER_ERROR
        assert words in refused.err


def test_a_rayjob_is_scaled_another_way(gpt_run: GptRun, stand_ins: StandIns) -> None:
    stand_ins.rayjob("ray")
    refused = gpt_run("job", "scale", "ray", "3")
    assert refused.code == EXIT_USER_ERROR
    assert "set policy.enabled and scale again" in refused.err
    assert "1 to 4 workers" in gpt_run("job", "scale", "ray", "5").err


def test_suspend_and_resume(gpt_run: GptRun, stand_ins: StandIns) -> None:
    stand_ins.pytorchjob("gpt2")
    stand_ins.rayjob("ray")
    for plural, name, field in (("pytorchjobs", "gpt2", ("spec", "runPolicy")), ("rayjobs", "ray", ("spec",))):
        group = "kubeflow.org" if plural == "pytorchjobs" else "ray.io"
        place = (group, "v1", stand_ins.namespace, plural, name)

        def suspended(place: tuple[str, ...] = place, field: tuple[str, ...] = field) -> bool:
            node = stand_ins.custom.get_namespaced_custom_object(*place)
            for part in field:
                node = node[part]
            return bool(node["suspend"])

        assert gpt_run("job", "suspend", name).out == f"{name}: suspended\n"
        assert suspended()
        mark = {"metadata": {"annotations": {MARK_ANNOTATION: "ConfigInvalid then"}}}
        stand_ins.custom.patch_namespaced_custom_object(*place, mark)
        assert gpt_run("job", "suspend", name).out == f"{name}: suspended (as before)\n"
        notes = stand_ins.custom.get_namespaced_custom_object(*place)["metadata"].get("annotations", {})
        assert MARK_ANNOTATION not in notes, "a person's word counts as a person's"
        assert gpt_run("job", "resume", name).out == f"{name}: resumed\n"
        assert not suspended()


def test_suspend_waits_until_workers_have_saved(gpt_run: GptRun, stand_ins: StandIns, kubelet: Kubelet) -> None:
    stand_ins.pytorchjob("gpt2")
    stand_ins.pod("gpt2", "gpt2-worker-0", index=0)
    stand_ins.container("gpt2-worker-0", running={})
    early = gpt_run("job", "suspend", "gpt2", "--wait", "--timeout", "0")
    assert early.code == 1
    assert "Draining" in early.out
    stand_ins.delete_pod("gpt2-worker-0")
    assert gpt_run("job", "suspend", "gpt2", "--wait").code == 0


def test_wait_follows_a_run_to_its_end(
    gpt_run: GptRun, stand_ins: StandIns, kubelet: Kubelet, status: tuple[RunStatus, str, int]
) -> None:
    stand_ins.pytorchjob("gpt2")
    report, address, port = status

    def run() -> None:
        stand_ins.pod("gpt2", "gpt2-worker-0", index=0)
        waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
        stand_ins.container("gpt2-worker-0", waiting=waiting)
        time.sleep(3)
        report.report({"step": 5, "steps_total": 10, "loss": 2.5, "tokens_per_second": 1200.0})
        stand_ins.coordinator("gpt2", address, port)
        stand_ins.conditions("gpt2", "Created", "Running")
        time.sleep(3)
        stand_ins.conditions("gpt2", "Created", "Succeeded", message="PyTorchJob gpt2 successfully completed.")

    thread = threading.Thread(target=run)
    thread.start()
    result = gpt_run("job", "wait", "gpt2", "--timeout", "60")
    thread.join()
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "pending"
    assert "gpt2-worker-0: ImagePullBackOff: no such image" in lines
    assert any("step  5/10  loss 2.5000  1.2k tokens/s" in line for line in lines), lines
    assert lines[-1] == "gpt2 is Succeeded: PyTorchJob gpt2 successfully completed."


def test_wait_tells_why_a_run_failed(
    gpt_run: GptRun, stand_ins: StandIns, kubelet: Kubelet, status: tuple[RunStatus, str, int]
) -> None:
    stand_ins.pytorchjob("gpt2")
    report, address, port = status
    report.error(1, "WorkerFailed", "error: rank 1 died")
    stand_ins.coordinator("gpt2", address, port)
    stand_ins.pod("gpt2", "gpt2-worker-0", index=0)
    stand_ins.container("gpt2-worker-0", terminated={"exitCode": 1, "message": "error: 4 failures within 3600 s"})
    stand_ins.conditions("gpt2", "Failed", message="backoffLimit reached")
    result = gpt_run("job", "wait", "gpt2")
    assert result.code == 1
    assert result.out.splitlines()[-3:] == [
        "gpt2 is Failed: backoffLimit reached",
        "last error: error: rank 1 died",
        "gpt2-worker-0 ended with 1: error: 4 failures within 3600 s",
    ]
    found = json.loads(gpt_run("job", "wait", "gpt2", "--json").out)
    assert (found["phase"], found["timed_out"]) == ("Failed", False)


def test_wait_ends_with_75_for_a_suspended_run_unless_kueue_did_it(gpt_run: GptRun, stand_ins: StandIns) -> None:
    stand_ins.pytorchjob("gpt2")
    gpt_run("job", "suspend", "gpt2")
    assert gpt_run("job", "wait", "gpt2").code == 75
    stand_ins.pytorchjob("queued", labels={"kueue.x-k8s.io/queue-name": "team"})
    gpt_run("job", "suspend", "queued")
    result = gpt_run("job", "wait", "queued", "--timeout", "0")
    assert result.code == 1
    assert result.out.splitlines() == ["queued", "queued is Queued after 0 s; it goes on"]


def test_names_and_access(
    gpt_run: GptRun, stand_ins: StandIns, servers: tuple[ApiServer, ApiServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.pytorchjob("gpt2")
    unknown = gpt_run("job", "wait", "gpt3")
    assert unknown.code == EXIT_USER_ERROR
    assert "one of gpt2" in unknown.err

    monkeypatch.setenv("KUBECONFIG", str(servers[0].kubeconfig(STRANGER)))
    for command in (("wait", "gpt2"), ("scale", "gpt2", "3"), ("logs", "gpt2")):
        refused = gpt_run("job", *command)
        assert refused.code == EXIT_USER_ERROR
        assert 'User "stranger" cannot get resource "pytorchjobs"' in refused.err
    refused = gpt_run("status", "gpt2")
    assert refused.code == EXIT_USER_ERROR
    assert "services/proxy" in refused.err

    refused = gpt_run("job", "wait", "gpt2", "--context", "elsewhere")
    assert refused.code == EXIT_USER_ERROR
    assert "one of stranger" in refused.err


def test_a_cluster_without_the_operators_kinds(
    gpt_run: GptRun, servers: tuple[ApiServer, ApiServer], stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(servers[1].kubeconfig()))
    assert "install training operator >= 1.9" in gpt_run("job", "wait", "gpt2").err
    client.CoreV1Api(client_of(servers[1])).create_namespace({"metadata": {"name": stand_ins.namespace}})
    refused = submit(gpt_run, "gpt2")
    assert refused.code == EXIT_USER_ERROR
    assert "install training operator >= 1.9" in refused.err


def test_a_server_that_is_away(gpt_run: GptRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    context = {"name": "away", "context": {"cluster": "away", "user": "nobody"}}
    cluster = {"name": "away", "cluster": {"server": f"https://127.0.0.1:{port}"}}
    content = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
    content |= {"users": [{"name": "nobody", "user": {}}], "current-context": "away"}
    (tmp_path / "config").write_text(json.dumps(content))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr("trainer.cli.job._SHORT_SECONDS", 1.0)
    result = gpt_run("job", "scale", "gpt2", "3")
    assert result.code == EXIT_USER_ERROR
    assert f"https://127.0.0.1:{port} does not answer" in result.err
    assert "Connection refused" in result.err


def test_status_of_a_release(gpt_run: GptRun, stand_ins: StandIns, status: tuple[RunStatus, str, int]) -> None:
    stand_ins.pytorchjob("gpt2")
    away = gpt_run("status", "gpt2")
    assert away.code == 1
    assert "gpt2 is Pending, and its coordinator does not answer" in away.err
    assert "network.policy.from" not in away.err
    stand_ins.conditions("gpt2", "Created", "Running")
    assert "NetworkPolicy may keep the API server out (network.policy.from)" in gpt_run("status", "gpt2").err
    report, address, port = status
    report.report({"step": 5, "steps_total": 10})
    stand_ins.coordinator("gpt2", address, port)
    assert "5 of 10 (50.0%)" in gpt_run("status", "gpt2").out
    assert json.loads(gpt_run("status", "gpt2", "--json").out)["step"] == 5


START = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float, text: str) -> tuple[datetime, str]:
    """A line of a log."""
    return START + timedelta(seconds=second), text


def test_logs_follow_rank_0(
    servers: tuple[ApiServer, ApiServer],
    stand_ins: StandIns,
    kubelet: Kubelet,
    status: tuple[RunStatus, str, int],
    gpt_run: GptRun,
) -> None:
    stand_ins.pytorchjob("gpt2")
    report, address, port = status
    stand_ins.coordinator("gpt2", address, port)
    printed: list[str] = []
    said: list[str] = []
    cluster = connect(context=None, namespace=stand_ins.namespace)
    backend, _ = find_run(cluster, "gpt2")
    follower = LogFollower(cluster, backend, tail=None, out=printed.append, say=said.append)

    def look() -> list[str]:
        """What two looks print; the second one has nothing to add."""
        printed.clear()
        follower.look("gpt2", follow=True)
        first = list(printed)
        follower.look("gpt2", follow=True)
        assert printed == first
        return first

    assert "no log yet: gpt2 is Pending, and no worker has started" in gpt_run("job", "logs", "gpt2").err
    logs = kubelet.logs
    for index in range(2):
        stand_ins.pod("gpt2", f"gpt2-worker-{index}", index=index)
        stand_ins.container(f"gpt2-worker-{index}", running={})
    # Before a round: worker-0. Then the round: it has rank 0.
    worker0, worker1 = ("gpt2-worker-0", "pytorch"), ("gpt2-worker-1", "pytorch")
    logs[worker0] = [at(1, "warming up"), at(1, "waiting")]
    logs[worker1] = [at(1, "warming up, too")]
    assert look() == ["warming up", "waiting"]
    members(report, "gpt2-worker-0", "gpt2-worker-1")
    logs[worker0] += [at(1, "same moment"), at(10, "step 1")]
    assert look() == ["same moment", "step 1"]
    # Its container starts again: the end of the old one's log, and the new one's.
    kubelet.previous[worker0] = [*logs[worker0], at(20, "step 2")]
    logs[worker0] = [at(25, "step 3")]
    stand_ins.container("gpt2-worker-0", restarts=1, running={})
    assert look() == ["step 2", "step 3"]
    # It is gone, and rank 0 is on worker-1, whose older lines are not rank 0's.
    logs[worker1] += [at(15, "a warning of rank 1"), at(26, "step 4")]
    stand_ins.delete_pod("gpt2-worker-0")
    assert look() == []
    members(report, "gpt2-worker-1")
    assert look() == ["step 4"]
    assert said == ["rank 0 is on gpt2-worker-1"]
    # A new pod of the old name, on a node whose clock is late, takes over: all of its lines.
    stand_ins.pod("gpt2", "gpt2-worker-0", index=0)
    stand_ins.container("gpt2-worker-0", running={})
    logs[worker0] = [at(2, "step 5")]
    del kubelet.previous[worker0]
    stand_ins.delete_pod("gpt2-worker-1")
    members(report, "gpt2-worker-0")
    assert look() == ["step 5"]
    stand_ins.conditions("gpt2", "Succeeded")
    logs[worker0] += [at(3, "training is complete")]
    result = gpt_run("job", "logs", "gpt2", "--follow", "--tail", "1")
    assert (result.code, result.out) == (0, "training is complete\n")
    assert gpt_run("job", "logs", "gpt2").out == "step 5\ntraining is complete\n"


def members(status: RunStatus, *hosts: str) -> None:
    """A round of these launchers, the first with rank 0."""
    found = {host: Member(host, host, slots=1, since=i, seen_at=0.0) for i, host in enumerate(hosts)}
    seen = Seen(hold_until=0.0, rules=Rules(), members=found, round=Round("id", 1, tuple(found)))
    status.look_at("gpt2", seen, Wait(""), now=0.0)
