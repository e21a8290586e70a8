"""`gpt-run job suspend|resume` on a job that our operator suspended: whose word it is afterwards.

One object behind an HTTP server that merges patches (RFC 7386) stands for the API server, whose own way is seen in
tests/cluster/jobs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from operators.api import JobKind
from operators.backends import BACKENDS
from operators.backends.backend import MARK_ANNOTATION as OPERATORS_MARK
from tests.unit.operators.objects import PYTORCHJOB, RAYJOB
from trainer.cli.main import app
from trainer.jobs.backends import MARK_ANNOTATION


class Served:
    """The one object, and the patches that came for it."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = deepcopy(body)
        self.patches: list[dict[str, Any]] = []
        self.path = f"/apis/{body['apiVersion']}/namespaces/runs/{body['kind'].lower()}s/demo"


def merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


@pytest.fixture(params=[PYTORCHJOB, RAYJOB], ids=["pytorchjob", "rayjob"])
def served(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A job that may be suspended, and a kubeconfig that leads to it."""
    found = Served(request.param)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here = self.path.partition("?")[0] == found.path
            self.answer(200 if here else 404, found.body if here else {"kind": "Status", "reason": "NotFound"})

        def do_PATCH(self) -> None:
            patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            found.patches.append(patch)
            merge(found.body, patch)
            found.body["metadata"]["generation"] += 1
            self.answer(200, found.body)

        def answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "runs"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    yield found
    server.shutdown()
    server.server_close()


def mark_of(served: Served) -> str:
    """As the operator reads it: only what bears its mark does it resume."""
    return BACKENDS[JobKind(served.body["kind"])].record(served.body).job.mark


def test_what_the_operator_suspended_a_person_may_take_over(served: Served) -> None:
    record = BACKENDS[JobKind(served.body["kind"])].record(served.body)
    for patch in BACKENDS[JobKind(served.body["kind"])].suspend(record, "ConfigInvalid then", "1"):
        merge(served.body, patch.body)
    assert mark_of(served)
    told = CliRunner().invoke(app, ["job", "suspend", "demo"], catch_exceptions=False)
    assert "demo: suspended (as before)" in told.output
    assert (mark_of(served), len(served.patches)) == ("", 1)
    CliRunner().invoke(app, ["job", "suspend", "demo"], catch_exceptions=False)
    assert len(served.patches) == 1, "there is nothing to change"


def test_what_a_person_resumes_bears_no_mark(served: Served) -> None:
    record = BACKENDS[JobKind(served.body["kind"])].record(served.body)
    for patch in BACKENDS[JobKind(served.body["kind"])].suspend(record, "ConfigInvalid then", "1"):
        merge(served.body, patch.body)
    assert CliRunner().invoke(app, ["job", "resume", "demo"], catch_exceptions=False).exit_code == 0
    assert mark_of(served) == ""
    assert CliRunner().invoke(app, ["job", "suspend", "demo"], catch_exceptions=False).exit_code == 0
    assert mark_of(served) == "", "suspended before the operator saw that it was resumed: not its own suspension"


def test_they_mean_the_same_mark() -> None:
    assert MARK_ANNOTATION == OPERATORS_MARK
