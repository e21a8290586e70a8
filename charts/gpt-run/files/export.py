"""Wait for the end of a run, export one of its checkpoints and put the result under RUN/exports.

Runs in the chart's export Job, from a ConfigMap. The coordinator's /status says when training has finished; where it
went away with the run, as Ray's head does, the step that it said last does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from typing import Any

POLL_SECONDS = 15.0


def main() -> None:
    """Wait, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--status", required=True, help="URL of the coordinator's /status")
    parser.add_argument("--run", required=True, help="<store>/<run>")
    parser.add_argument("--checkpoint", required=True, help="latest, best, step:N or a name")
    parser.add_argument("--dtype", required=True, help="type of the weights")
    parser.add_argument("--poll-seconds", type=float, default=POLL_SECONDS, help="between two looks at the status")
    options = parser.parse_args()
    if not wait_until_finished(options.status, options.poll_seconds):
        sys.exit("the run failed; nothing is exported")
    export(f"{options.run}@{options.checkpoint}", options.dtype, f"{options.run}/exports")


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


def export(checkpoint: str, dtype: str, target: str) -> None:
    """Export `checkpoint` to `target`/NAME, NAME being the checkpoint's; an upload that was cut short goes on."""
    shown = json.loads(gpt_run("checkpoints", "show", checkpoint, "--json"))
    place = f"{target}/{shown['name']}"
    print(gpt_run("checkpoints", "export", shown["url"], "--dtype", dtype, "--upload", place, "--replace"), flush=True)


def gpt_run(*arguments: str) -> str:
    """What the command prints; its errors and progress go to this pod's log. A command that fails ends the script."""
    result = subprocess.run(["gpt-run", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        sys.exit(result.returncode)
    return result.stdout


if __name__ == "__main__":
    main()
