"""Start one worker per rank on this machine, pass signals on, and turn their ends into one exit code.

Called by `gpt-run train`. Workers meet at a TCP store that the launcher holds, on a port the kernel chose, so there is
no race for a port. A worker that is told to stop saves and exits 75; when one fails, the others, who would wait for it
in a collective, are killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_USER_ERROR

REPORT_FOLDER_VARIABLE = "GPTRUN_REPORT_FOLDER"
_POLL_SECONDS = 0.05
# Ranks find most errors together; a short wait lets each report its own before the rest are killed.
_FAILURE_GRACE_SECONDS = 2.0


class Launcher:
    """The workers of one attempt on one machine."""

    def __init__(self, command: Sequence[str], *, nproc: int, grace_seconds: float) -> None:
        self._command = list(command)
        self._nproc = nproc
        self._grace_seconds = grace_seconds
        self._workers: list[subprocess.Popen[bytes]] = []
        self._kill_at_seconds: float | None = None
        self._interrupts = 0

    def run(self) -> int:
        """Start the workers, wait for all of them and return the exit code of the run."""
        import torch.distributed as dist

        previous = {number: signal.signal(number, self._pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with tempfile.TemporaryDirectory(prefix="gpt-run-") as reports:
                store = dist.TCPStore(  # type: ignore[attr-defined]  # exported where torch was built with it
                    "127.0.0.1", 0, is_master=True, wait_for_workers=False
                )
                self._start(store.port, reports)
                codes = self._wait()
                self._print_report(Path(reports))
        finally:
            for worker in self._workers:
                worker.kill()
                worker.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return exit_code(codes)

    def _start(self, port: int, reports: str) -> None:
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // self._nproc))
        for rank in range(self._nproc):
            environment = {
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(self._nproc),
                "LOCAL_WORLD_SIZE": str(self._nproc),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                # Every rank is a client of the launcher's store; without this rank 0 would open a second one.
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "OMP_NUM_THREADS": threads,
                REPORT_FOLDER_VARIABLE: reports,
                "GPTRUN_LAUNCHER_PID": str(os.getpid()),
            }
            self._workers.append(subprocess.Popen(self._command, env=environment))

    def _wait(self) -> list[int]:
        while True:
            codes = [worker.poll() for worker in self._workers]
            ended = [code for code in codes if code is not None]
            if len(ended) == len(codes):
                return ended
            if any(ended):
                preempted = exit_code(ended) == EXIT_PREEMPTED
                self._kill_within(self._grace_seconds if preempted else _FAILURE_GRACE_SECONDS)
            if self._kill_at_seconds is not None and time.monotonic() >= self._kill_at_seconds:
                for worker in self._workers:
                    worker.kill()
            time.sleep(_POLL_SECONDS)

    def _kill_within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._kill_at_seconds = min(deadline, self._kill_at_seconds or deadline)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self._kill_within(self._grace_seconds)
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                self._kill_within(0.0)
                return
            if os.isatty(0):
                return  # the terminal sent Ctrl+C to the workers too
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(number)

    def _print_report(self, folder: Path) -> None:
        reports = sorted(folder.glob("rank-*.json"))
        if reports:
            print(json.loads(reports[0].read_text())["message"], file=sys.stderr, flush=True)


def exit_code(codes: Sequence[int]) -> int:
    """The run's exit code from its workers': wrong input, then failure, then preemption, then success.

    A worker that was killed because another one failed does not hide that one's reason.
    """
    if EXIT_USER_ERROR in codes:
        return EXIT_USER_ERROR
    if all(code == EXIT_FINISHED for code in codes):
        return EXIT_FINISHED
    if all(code in (EXIT_FINISHED, EXIT_PREEMPTED) for code in codes):
        return EXIT_PREEMPTED
    return EXIT_FAILED


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command line of one rank."""
    return [sys.executable, "-m", "trainer", "worker", *arguments]
