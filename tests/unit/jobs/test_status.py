"""`gpt-run status URL`, against the server that a coordinator has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from typer.testing import CliRunner

from trainer.cli.main import app
from trainer.elastic.status import RunStatus, StatusServer
from trainer.errors import UserError
from trainer.jobs.state import Phase
from trainer.jobs.status import is_url, read_url, unanswered


@pytest.fixture
def server() -> Iterator[StatusServer]:
    status = RunStatus()
    status.report({"step": 7, "steps_total": 10, "loss": 2.5})
    server = StatusServer(status, "127.0.0.1", 0)
    yield server
    server.close()


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "http://127.0.0.1:{}/status", "127.0.0.1:{}", "127.0.0.1:{}/"])
def test_forms_of_the_url(server: StatusServer, form: str) -> None:
    target = form.format(server.port)
    assert is_url(target)
    assert read_url(target)["step"] == 7


def test_shown_for_people_and_as_json(server: StatusServer) -> None:
    url = f"http://127.0.0.1:{server.port}"
    text = CliRunner().invoke(app, ["status", url], catch_exceptions=False).output
    assert "7 of 10 (70.0%)" in text
    assert json.loads(CliRunner().invoke(app, ["status", url, "--json"], catch_exceptions=False).output)["loss"] == 2.5


def test_names_of_releases_are_no_urls() -> None:
    assert not is_url("gpt2-124m")


@pytest.mark.parametrize("target", ["ftp://host/", "http://", "127.0.0.1:1", "http://127.0.0.1:1/status"])
def test_nobody_there(target: str) -> None:
    with pytest.raises(UserError, match=target.replace("http://127", "127").removesuffix("/")[:9]):
        read_url(target)


def test_another_server() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    other = HTTPServer(("127.0.0.1", 0), Other)
    Thread(target=other.serve_forever, daemon=True).start()
    with pytest.raises(UserError, match="no JSON there"):
        read_url(f"http://127.0.0.1:{other.server_address[1]}")
    other.shutdown()
    other.server_close()


def test_what_is_said_of_a_coordinator_that_does_not_answer() -> None:
    assert unanswered("gpt2", Phase.PENDING, "no room") == [
        "gpt2 is Pending, and its coordinator does not answer (no room)"
    ]
    first, hint = unanswered("gpt2", Phase.RUNNING)
    assert first == "gpt2 is Running, and its coordinator does not answer"
    assert "network.policy.from" in hint
    assert "kubectl port-forward service/gpt2-coordinator 29480" in hint
