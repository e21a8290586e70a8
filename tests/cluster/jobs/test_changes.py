"""`gpt-run job scale`, `suspend` and `resume` against a real API server, and servers that no command can use."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from kubernetes import client

from tests.cluster.api_server import STRANGER, ApiServer
from tests.cluster.jobs.conftest import MARKS, GptRun, client_of, submit, worker_replicas
from tests.cluster.stand_ins import Kubelet, StandIns
from trainer.errors import EXIT_USER_ERROR
from trainer.jobs.backends import MARK_ANNOTATION

pytestmark = MARKS


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
