"""files/export.py: waits for the end of a run, and uploads."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import fsspec
import pytest

from charts.generator.values import CHART


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


def test_uploads_the_marker_last(script: ModuleType, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "onnx").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "onnx" / "model.bin").write_bytes(b"weights")
    store = fsspec.filesystem("memory")
    script.upload((model, "step-00000010-a0001"), "memory://runs/demo/exports")
    target = "/runs/demo/exports/step-00000010-a0001"
    assert store.cat_file(f"{target}/onnx/model.bin") == b"weights"
    assert json.loads(store.cat_file(f"{target}/exported.json")) == {"checkpoint": "step-00000010-a0001"}
