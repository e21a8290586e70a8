"""A process that has imported the trainer and forks itself for each command: real processes without the wait for torch.

Reads one JSON job per line from standard input, {"id", "arguments", "folder", "environment", "output"}, and answers
{"id", "pid"} at once and {"id", "code"} when the command has ended. Started by the fixture `warm`; ends with its input.
"""

from __future__ import annotations

import json
import os
import select
import sys
from typing import Any

# What a worker imports, and what torch imports when the first optimizer is stepped.
import torch._dynamo  # noqa: F401

import trainer.train.worker  # noqa: F401
from trainer.__main__ import main


def serve() -> None:
    """Fork for each job and report each end; forked children return the job they are for."""
    running: dict[int, int] = {}
    print(json.dumps({"ready": True}), flush=True)
    buffer = b""
    while True:
        if select.select([0], [], [], 0.01)[0]:
            received = os.read(0, 1 << 16)
            if not received:
                return
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                job = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    command(job)
                running[pid] = job["id"]
                print(json.dumps({"id": job["id"], "pid": pid}), flush=True)
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            print(json.dumps({"id": running.pop(pid), "code": os.waitstatus_to_exitcode(status)}), flush=True)


def command(job: dict[str, Any]) -> None:
    """Become the command: its folder, environment, arguments and output."""
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    sys.argv = ["gpt-run", *job["arguments"]]
    main()
    sys.exit(0)


if __name__ == "__main__":
    serve()
