"""files/export.py: waits for the end of a run, and exports."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from charts.generator.values import CHART
from trainer.cli.main import app


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("export", CHART / "files" / "export.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Statuses(ThreadingHTTPServer):
    """Answers with one status after the other; the last one stays, and None is an answer that fails."""

    def __init__(self, answers: list[dict[str, Any] | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.url = f"http://127.0.0.1:{self.server_port}/status"


class _Handler(BaseHTTPRequestHandler):
    server: Statuses

    def do_GET(self) -> None:
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(200 if answer else 503)
        self.end_headers()
        if answer:
            self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
        pass


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Statuses] = []

    def start(*answers: dict[str, Any] | None) -> str:
        server = Statuses(list(answers))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def status(phase: str, step: int | None = None) -> dict[str, Any]:
    return {"phase": phase, "step": step, "steps_total": 10}


@pytest.mark.parametrize(
    ("answers", "finished"),
    [
        ([None, status("waiting"), status("training", 3), status("finished", 10)], True),
        ([status("training", 3), status("failed", 3)], False),
        # Ray's head went away with the run that had reached its last step.
        ([status("saving", 10), None], True),
        # A coordinator that was replaced after the end knows nothing of it.
        ([status("saving", 10), status("waiting")], True),
        # One that was away in the middle does not end the wait.
        ([status("training", 9), None, status("training", 10), status("finished", 10)], True),
    ],
)
def test_waits_for_the_end(script: ModuleType, serve: Any, answers: list[Any], finished: bool) -> None:
    assert script.wait_until_finished(serve(*answers), 0.0) is finished


# Stands for the command, whose own tests are in tests/integration/evaluate: it takes seconds to import torch.
COMMAND = """#!/bin/sh
echo "$@" >> calls.txt
[ "$2" != show ] || echo '{"name": "step-00000010-a0001", "url": "s3://b/runs/demo/checkpoints/step-00000010-a0001"}'
[ "$2" != export ] || exit "$EXPORT_CODE"
"""


@pytest.mark.parametrize("code", [0, 2])
def test_exports_to_a_place_with_the_name_of_the_checkpoint(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    command = tmp_path / "gpt-run"
    command.write_text(COMMAND)
    command.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("EXPORT_CODE", str(code))
    ended = nullcontext() if code == 0 else pytest.raises(SystemExit, match=str(code))
    with ended:
        script.export("s3://b/runs/demo@best", "bf16", "s3://b/runs/demo/exports")
    url = "s3://b/runs/demo/checkpoints/step-00000010-a0001"
    upload = "--upload s3://b/runs/demo/exports/step-00000010-a0001 --replace"
    assert (tmp_path / "calls.txt").read_text().splitlines() == [
        "checkpoints show s3://b/runs/demo@best --json",
        f"checkpoints export {url} --dtype bf16 {upload}",
    ]


def test_its_words_are_those_of_the_command(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option that the script gives is one that the command has."""
    said: list[tuple[str, ...]] = []

    def gpt_run(*arguments: str) -> str:
        said.append(arguments)
        return json.dumps({"name": "step-00000010-a0001", "url": "runs/demo"})

    monkeypatch.setattr(script, "gpt_run", gpt_run)
    script.export("runs/demo@best", "bf16", "runs/demo/exports")
    group: Any = typer.main.get_command(app)
    for _, name, _, *options in said:
        known = {
            option for parameter in group.commands["checkpoints"].commands[name].params for option in parameter.opts
        }
        assert {word for word in options if word.startswith("--")} <= known
