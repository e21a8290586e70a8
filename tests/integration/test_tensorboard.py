"""`gpt-run tensorboard` as a process, asked as a browser asks it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.integration.servers import Server, free_port
from tests.integration.training import ENVIRONMENT, WAIT_SECONDS
from tests.ipv6 import HAS_IPV6
from trainer.addresses import joined

LINES = "".join(json.dumps({"step": step, "loss": 5.0 - step}) + "\n" for step in (1, 2, 3))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trainer", "tensorboard", *arguments]


def ask(port: int, path: str, host: str = "127.0.0.1") -> Any:
    """An answer of TensorBoard's, once it is there and not empty."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://{joined(host, port)}/data/{path}", timeout=10) as answer:
                if found := json.load(answer):
                    return found
        except (urllib.error.URLError, ConnectionError):
            pass
        assert time.monotonic() < deadline, f"no answer to {path}"
        time.sleep(0.2)


def test_a_run_in_a_bucket_is_shown_until_sigterm(start_server: Callable[[str], Server], tmp_path: Path) -> None:
    server = start_server("s3")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").pipe("bucket/board/demo/logs/a0001/training-000.jsonl", LINES.encode())
    port = free_port()
    process = subprocess.Popen(
        command(f"{server.url}/board/demo", "--host", "::", "--port", str(port), "--every-seconds", "1"),
        env=os.environ | ENVIRONMENT | server.environment | {"TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    try:
        assert ask(port, "runs") == ["demo"]
        events = ask(port, "plugin/scalars/scalars?run=demo&tag=train%2Floss")
        assert [(step, value) for _, step, value in events] == [(1, 4.0), (2, 3.0), (3, 2.0)]
        if HAS_IPV6:
            assert ask(port, "runs", "::1") == ["demo"]
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs" / "none").mkdir(parents=True)
    result = subprocess.run(
        command("runs/none"),
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert result.returncode == 2
    assert "runs/none holds no run" in result.stderr
