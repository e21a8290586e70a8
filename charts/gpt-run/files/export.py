"""Wait for the end of a run, export one of its checkpoints and put the result under RUN/exports.

Runs in the chart's export Job, from a ConfigMap. The coordinator's /status says when training has finished; where it
went away with the run, as Ray's head does, the step that it said last does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

POLL_SECONDS = 15.0
# Written last: an export without it is not whole.
MARKER = "exported.json"


def main() -> None:
    """Wait, export, upload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--status", required=True, help="URL of the coordinator's /status")
    parser.add_argument("--run", required=True, help="<store>/<run>")
    parser.add_argument("--checkpoint", required=True, help="latest, best, step:N or a name")
    parser.add_argument("--dtype", required=True, help="type of the weights")
    parser.add_argument("--poll-seconds", type=float, default=POLL_SECONDS)
    options = parser.parse_args()
    if not wait_until_finished(options.status, options.poll_seconds):
        sys.exit("the run failed; nothing is exported")
    upload(export(f"{options.run}@{options.checkpoint}", options.dtype), f"{options.run}/exports")


def wait_until_finished(url: str, poll_seconds: float) -> bool:
    """True when the run has finished, False when it has failed."""
    last_step_seen = False
    while True:
        status = read_status(url) or {}
        if status.get("phase") in ("finished", "failed"):
            return bool(status["phase"] == "finished")
        step = status.get("step")
        if last_step_seen and step is None:
            return True
        last_step_seen = last_step_seen or (step is not None and step == status.get("steps_total"))
        time.sleep(poll_seconds)


def read_status(url: str) -> dict[str, Any] | None:
    """What /status says, None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # the chart gives an http URL
            status: dict[str, Any] = json.load(answer)
            return status
    except (OSError, ValueError):
        return None


def export(checkpoint: str, dtype: str) -> tuple[Path, str]:
    """Export `checkpoint` into a folder of this pod; returns it and the checkpoint's name."""
    folder = Path(tempfile.mkdtemp()) / "model"
    command = ["gpt-run", "checkpoints", "export", checkpoint, "--dtype", dtype, "--output", str(folder), "--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        sys.exit(result.returncode)
    name: str = json.loads(result.stdout)["checkpoint"].rstrip("/").rsplit("/", 1)[-1]
    return folder, name


def upload(exported: tuple[Path, str], target: str) -> None:
    """Copy the folder to `target`/NAME, the marker last."""
    import fsspec

    folder, name = exported
    files, root = fsspec.url_to_fs(f"{target}/{name}")
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            path = f"{root}/{file.relative_to(folder).as_posix()}"
            files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            files.put_file(str(file), path)
            print(f"uploaded {path}", flush=True)
    files.pipe_file(f"{root}/{MARKER}", json.dumps({"checkpoint": name}).encode())


if __name__ == "__main__":
    main()
