"""Start one worker per rank on this machine, pass a wish to stop on, and turn the workers' ends into one exit code.

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
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.elastic.signals import LAUNCHER_PID_VARIABLE, StopSignals
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_USER_ERROR

REPORT_FOLDER_VARIABLE = "GPTRUN_REPORT_FOLDER"
_POLL_SECONDS = 0.05
# Ranks find most errors together; a short wait lets each report its own before the rest are killed.
_FAILURE_GRACE_SECONDS = 2.0
_SHOW_CURSOR = "\x1b[?25h"


@dataclass(frozen=True)
class Report:
    """Why a worker ended with an error, as it wrote it down itself."""

    rank: int
    exit_code: int
    message: str
    time_ns: int
    """Wall clock of the machine, nanoseconds."""


class Launcher:
    """The workers of one attempt on one machine."""

    def __init__(self, command: Sequence[str], *, nproc: int, grace_seconds: float, signals: StopSignals) -> None:
        self._command = list(command)
        self._nproc = nproc
        self._grace_seconds = grace_seconds
        self._signals = signals
        self._workers: list[subprocess.Popen[bytes]] = []
        self._told_to_stop = False
        self._kill_at_seconds: float | None = None
        self._killed: set[int] = set()

    def run(self) -> int:
        """Start the workers, wait for all of them and return the exit code of the run."""
        import torch.distributed as dist

        try:
            with tempfile.TemporaryDirectory(prefix="gpt-run-") as folder:
                store = dist.TCPStore(  # type: ignore[attr-defined]  # exported where torch was built with it
                    "127.0.0.1", 0, is_master=True, wait_for_workers=False
                )
                self._signals.arm()
                self._start(store.port, folder)
                codes = self._wait()
                reports = read_reports(Path(folder))
        finally:
            self._kill()
            for worker in self._workers:
                worker.wait()
        if self._killed and sys.stdout.isatty():
            print(_SHOW_CURSOR, end="", flush=True)  # which the progress bar of a killed worker has hidden
        own_deaths = {rank: code for rank, code in enumerate(codes) if rank not in self._killed}
        for line in explain(own_deaths, reports, stopped=self._told_to_stop):
            print(line, file=sys.stderr, flush=True)
        return exit_code(codes, stopped=self._told_to_stop)

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
                LAUNCHER_PID_VARIABLE: str(os.getpid()),
            }
            # In a session of its own, so that a terminal's Ctrl+C reaches a worker once: through the launcher.
            self._workers.append(
                subprocess.Popen(self._command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
            )

    def _wait(self) -> list[int]:
        """Wait for all workers; their exit codes by rank."""
        while True:
            codes = [worker.poll() for worker in self._workers]
            ended = [code for code in codes if code is not None]
            if len(ended) == len(codes):
                return ended
            if self._signals.requested and not self._told_to_stop:
                self._told_to_stop = True
                self._kill_within(self._grace_seconds)
                print("stopping after this step and a save; one more Ctrl+C quits at once", file=sys.stderr, flush=True)
                for worker in self._workers:
                    worker.send_signal(signal.SIGTERM)
            if self._signals.insisted:
                self._kill_within(0.0)
            if any(ended):
                preempted = exit_code(ended, stopped=self._told_to_stop) == EXIT_PREEMPTED
                self._kill_within(self._grace_seconds if preempted else _FAILURE_GRACE_SECONDS)
            if self._kill_at_seconds is not None and time.monotonic() >= self._kill_at_seconds:
                self._kill()
            time.sleep(_POLL_SECONDS)

    def _kill_within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._kill_at_seconds = min(deadline, self._kill_at_seconds or deadline)

    def _kill(self) -> None:
        for rank, worker in enumerate(self._workers):
            if worker.poll() is None:
                self._killed.add(rank)
                worker.kill()


def exit_code(codes: Sequence[int], *, stopped: bool = False) -> int:
    """The run's exit code from its workers': wrong input, then failure, then preemption, then success.

    stopped: whether workers were told to stop; one that SIGTERM ended had not begun, so nothing was lost with it. A
    worker that was killed because another one failed does not hide that one's reason.
    """
    if stopped:
        codes = [EXIT_PREEMPTED if code == -signal.SIGTERM else code for code in codes]
    if EXIT_USER_ERROR in codes:
        return EXIT_USER_ERROR
    if all(code == EXIT_FINISHED for code in codes):
        return EXIT_FINISHED
    if all(code in (EXIT_FINISHED, EXIT_PREEMPTED) for code in codes):
        return EXIT_PREEMPTED
    return EXIT_FAILED


def explain(codes: dict[int, int], reports: Iterable[Report], *, stopped: bool) -> list[str]:
    """What to tell of workers that failed: who died of a signal, and the one report that names the cause.

    codes: exit code by rank, of those the launcher did not kill itself. Wrong input is the cause wherever a rank found
    some; else the first report is: the others tell of a peer that is gone.
    """
    lines = [
        f"error: rank {rank} was ended by {signal.Signals(-code).name}"
        + (" (the kernel does that when memory runs out)" if code == -signal.SIGKILL else "")
        for rank, code in sorted(codes.items())
        if code < 0 and not (stopped and code == -signal.SIGTERM)
    ]
    causes = sorted(reports, key=lambda report: (report.exit_code != EXIT_USER_ERROR, report.time_ns))
    return lines + [report.message for report in causes[:1]]


def write_report(folder: Path, report: Report) -> None:
    """Called by a worker before it ends with an error."""
    partial = folder / f".rank-{report.rank:05d}.json"
    partial.write_text(json.dumps(asdict(report)))
    partial.rename(folder / f"rank-{report.rank:05d}.json")


def read_reports(folder: Path) -> list[Report]:
    """The reports of all ranks that wrote one."""
    return [Report(**json.loads(path.read_text())) for path in folder.glob("rank-*.json")]


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command line of one rank."""
    return [sys.executable, "-m", "trainer", "worker", *arguments]
