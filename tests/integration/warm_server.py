"""A process that has imported the trainer and forks itself for each command: real processes without the wait for torch.

Reads one JSON job per line from standard input, {"id", "arguments", "folder", "environment", "output", "network"}, and
answers {"id", "pid"} at once and {"id", "code"} when the command has ended. Started by `tests.integration.warm`; ends
with its input. What a command leaves behind becomes this process's child, so that nothing is left unseen.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any

# What a worker imports, and what torch imports when the first optimizer is stepped.
import torch._dynamo  # noqa: F401

# What the commands import when they are called.
import trainer.cli.main
import trainer.elastic.launcher
import trainer.elastic.server
import trainer.train.warm  # noqa: F401
from trainer.__main__ import main
from trainer.elastic.signals import LAUNCHER_PID_VARIABLE

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNET = 0x40000000


def serve() -> None:
    """Fork for each job and report each end; forked children return the job they are for."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    running: dict[int, int] = {}
    # What is here now is no garbage. Unfrozen, each command that exits would look at all of it, and so copy its pages:
    # more work than most commands are.
    gc.freeze()
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
        while (ended := reaped()) is not None:
            pid, status = ended
            if pid in running:
                print(json.dumps({"id": running.pop(pid), "code": os.waitstatus_to_exitcode(status)}), flush=True)


def reaped() -> tuple[int, int] | None:
    """A child that has ended: a command, or what one has left behind. None if there is none now."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def command(job: dict[str, Any]) -> None:
    """Become the command: its folder, environment, network, arguments and output."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # tests that are interrupted leave nothing running
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    tempfile.tempdir = None  # of the environment of this job
    if job["network"] is not None:
        enter_network(job["network"])
    if job["arguments"][0] == "train":
        fork_server()
    sys.argv = ["gpt-run", *job["arguments"]]
    main()
    sys.exit(0)


def enter_network(path: str) -> None:
    """Go over into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), path)
    os.close(descriptor)


def fork_server() -> None:
    """A launcher's fork server, forked instead of executed: the same loop, with everything imported already.

    What `multiprocessing.forkserver.ensure_running` does at its first call; that finds it running then.
    """
    os.environ[LAUNCHER_PID_VARIABLE] = str(os.getpid())
    resource_tracker.ensure_running()
    listener = socket.socket(socket.AF_UNIX)
    address = connection.arbitrary_address("AF_UNIX")
    listener.bind(address)
    listener.listen()
    alive_read, alive_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(alive_write)
        importlib.import_module("trainer.elastic.fork_server")
        importlib.import_module("trainer.train.warm")
        try:
            forkserver.main(listener.fileno(), alive_read, [])
        finally:
            os._exit(0)
    listener.close()
    os.close(alive_read)
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server._forkserver_address, server._forkserver_alive_fd, server._forkserver_pid = address, alive_write, pid


if __name__ == "__main__":
    serve()
