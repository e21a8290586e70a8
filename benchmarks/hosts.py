"""Processes that live through all rounds of a benchmark and do what they are told, a line of JSON at a time.

A `Host` starts the ranks of one side with the environment that torchrun would give them, in the Python of its choice;
there a module calls `serve`. Only the standard library is imported here, so that a peer's environment needs nothing of
ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]
# For one answer; what takes longer is stuck, and must not hold up the other sides for ever.
LIMIT_SECONDS = 900.0

Job = dict[str, Any]
Answer = dict[str, Any]


class HostFailed(Exception):
    """A rank of a side ended or was stuck; the message is the end of what it wrote to standard error."""


class Host:
    """One side: `world` processes of `python -m MODULE ARGUMENTS`; all of them are ready when this returns."""

    def __init__(
        self, module: str, *arguments: str, python: Path | None = None, world: int = 1, threads: int | None = None
    ) -> None:
        """threads: of each rank. Raises HostFailed."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        if world > 1:
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(world)}
            environment |= {"LOCAL_WORLD_SIZE": str(world)}
        # A pipe that nobody reads would fill up.
        self._errors = [tempfile.TemporaryFile("w+") for _ in range(world)]  # noqa: SIM115  # closed with the processes
        self._processes = [
            subprocess.Popen(
                [str(python or sys.executable), "-m", module, *arguments],
                cwd=ROOT,
                env=environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors[rank],
                text=True,
            )
            for rank in range(world)
        ]
        self._stuck = False
        self._answers()

    def ask(self, job: Job) -> list[Answer]:
        """All ranks do the job; their answers, by rank. Raises HostFailed."""
        for process in self._processes:
            assert process.stdin is not None, "it is a pipe"
            # One that has ended says so when it is asked for its answer.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
        return self._answers()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            assert process.stdin is not None, "it is a pipe"
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process, errors in zip(self._processes, self._errors, strict=True):
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None, "it is a pipe"
            process.stdout.close()
            errors.close()

    def _answers(self) -> list[Answer]:
        stuck = threading.Timer(LIMIT_SECONDS, self._kill_stuck)
        stuck.daemon = True
        stuck.start()
        try:
            return [self._answer(rank) for rank in range(len(self._processes))]
        finally:
            stuck.cancel()

    def _kill_stuck(self) -> None:
        self._stuck = True
        for process in self._processes:
            process.kill()

    def _answer(self, rank: int) -> Answer:
        process = self._processes[rank]
        assert process.stdout is not None, "it is a pipe"
        if line := process.stdout.readline():
            answer: Answer = json.loads(line)
            return answer
        code = process.wait()
        self._errors[rank].seek(0)
        words = self._errors[rank].read()[-2000:]
        if self._stuck:
            words += f"\nno answer in {LIMIT_SECONDS:g} s"
        self.close()
        raise HostFailed(f"{' '.join(map(str, process.args))} ended with {code}:\n{words}")  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(prepare: Callable[[], Callable[[Job], Answer]]) -> None:
    """In a host's process: prepare what does the jobs, say that it is ready, then answer until there are no more."""
    # What libraries print must not stand among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    handle = prepare()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(handle(json.loads(line))), file=answers, flush=True)
    # Like a worker after an error: threads of gloo would hold the process up or abort it.
    os._exit(0)


def peak_memory_bytes() -> int:
    """The most resident memory that this process ever had, libraries that it shares with others included. Linux."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
