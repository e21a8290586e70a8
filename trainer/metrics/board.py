"""TensorBoard as a child process, fed with the lines of one run until somebody ends it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from trainer.addresses import EVERYWHERE, served_at
from trainer.checkpoint.store import open_store
from trainer.errors import UserError
from trainer.metrics.tensorboard import EventFiles
from trainer.storage_errors import one_line

_log = logging.getLogger(__name__)


def serve(url: str, *, host: str, port: int, every_seconds: float) -> None:
    """Show the run at `url` (<store>/<run>) until SIGTERM or SIGINT. Raises UserError where there is no such run."""
    run = open_store(url)
    if not run.list_names():
        raise UserError(
            f"{run.url} holds no run",
            expected="<store>/<run>, such as runs/tiny-gpt2 or s3://bucket/runs/tiny-gpt2",
            fix="check store and name; `gpt-run checkpoints list` takes the same",
        )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="gpt-run-tensorboard-") as folder:
        runs = Path(folder, "runs")
        files = EventFiles(run, runs / run.name)
        files.update()
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), *_place(host), "--port", str(port)]
        # It leaves a file about itself among the temporary ones.
        board = subprocess.Popen(
            [*command, "--reload_interval", str(max(1, int(every_seconds)))], env=os.environ | {"TMPDIR": folder}
        )
        try:
            while not ended.wait(every_seconds) and board.poll() is None:
                try:
                    files.update()
                except (OSError, TimeoutError) as error:  # a store that is away comes back
                    _log.warning("%s: not read, trying again (%s)", run.url, one_line(error))
        finally:
            if board.poll() is None:
                board.terminate()
            code = board.wait()
    if not ended.is_set():
        raise RuntimeError(f"TensorBoard ended by itself, with code {code}")


def _place(host: str) -> list[str]:
    """TensorBoard's options for where it listens: of everywhere it has its own notion."""
    place = served_at(host)
    return ["--bind_all"] if place == EVERYWHERE else ["--host", place]
