"""The workers of one launcher in one round: start, watch, stop, and say in one word how they ended.

The launcher's loop polls `Workers`; nothing here waits. Beside the workers there is a small process that holds the
round's store, where the first launcher's serves all ranks; it is opened before the launcher joins, on a port the kernel
chose, so there is no race for a port.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from trainer.elastic.forks import Forks, kill
from trainer.elastic.pulse import PulseReader
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import End
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_USER_ERROR

REPORT_FOLDER_VARIABLE = "GPTRUN_REPORT_FOLDER"
# Ranks find most errors together; a short wait lets each report its own before the rest are killed.
_FAILURE_GRACE_SECONDS = 0.5
_STORE_SECONDS = 60.0
# A killed process that is still there hangs in the kernel, on a file system or a device that does not answer.
_KILLED_SECONDS = 10.0


@dataclass(frozen=True)
class Report:
    """Why a worker ended with an error, as it wrote it down itself."""

    rank: int
    exit_code: int
    reason: Reason
    message: str
    time_ns: int
    """Wall clock of the machine, nanoseconds."""


@dataclass(frozen=True)
class Outcome:
    """How the workers of one launcher ended."""

    end: End
    exit_code: int
    reason: Reason | None = None
    message: str = ""


class RoundStore:
    """The process that holds a round's TCP store."""

    def __init__(self, forks: Forks, host: str) -> None:
        """Open it; RuntimeError if it does not come up."""
        reader, writer = forks.pipe()
        self._process = forks.start("gpt-run:store", "trainer.elastic.round_store:keep", {}, host, writer)
        writer.close()
        try:
            if not reader.poll(_STORE_SECONDS):
                raise EOFError
            self.port: int = reader.recv()
        except EOFError:
            self.close()
            raise RuntimeError(f"the store for a round could not be opened on {host}") from None
        finally:
            reader.close()

    def close(self) -> None:
        """End it; connections to it break."""
        kill(self._process)
        self._process.join()


class Workers:
    """One round's workers of one launcher."""

    def __init__(self, forks: Forks, function: str, arguments: tuple[Any, ...], environments: list[dict[str, str]]):
        """environments: one for each rank of this machine, in order. function: `module:name` of what they call."""
        self._folder = tempfile.TemporaryDirectory(prefix="gpt-run-")
        self._first_rank = int(environments[0]["RANK"])
        self._processes: list[BaseProcess] = []
        self._readers: list[PulseReader] = []
        self._pipes = []
        self._killed: set[int] = set()
        self._told_to_stop: Reason | None = None
        self._stopped_by: tuple[Reason, str] | None = None
        self._hung: str | None = None
        self._kill_at_seconds: float | None = None
        for environment in environments:
            reader, writer = forks.pipe()
            environment = {**environment, REPORT_FOLDER_VARIABLE: self._folder.name}
            process = forks.start(f"gpt-run:rank{environment['RANK']}", function, environment, writer, *arguments)
            writer.close()
            self._processes.append(process)
            self._pipes.append(reader)
            self._readers.append(PulseReader(reader.fileno()))

    def sentinels(self) -> list[int]:
        """What becomes readable when a worker ends."""
        return [process.sentinel for process in self._processes if process.exitcode is None]

    def pulse(self) -> list[tuple[int, dict[str, Any]]]:
        """(local rank, fields) of everything workers told since the last call."""
        return [(rank, fields) for rank, reader in enumerate(self._readers) for fields in reader.read()]

    def stop(self, reason: Reason, within_seconds: float) -> None:
        """SIGTERM, once: save and leave; SIGKILL to those that still run after so long."""
        if self._told_to_stop is None:
            self._told_to_stop = reason
            for process in self._processes:
                if process.exitcode is None:
                    process.terminate()
        self._kill_within(within_seconds)

    def end_now(self, reason: Reason, message: str) -> None:
        """SIGKILL: a peer is gone, and the workers hang in a collective."""
        self._stopped_by = self._stopped_by or (reason, message)
        self._kill_within(0.0)

    def end_hung(self, message: str) -> None:
        """SIGKILL: the workers themselves make no progress."""
        self._hung = self._hung or message
        self._kill_within(0.0)

    def poll(self) -> Outcome | None:
        """How they ended, once all have; sees to it that the rest follow soon when one has failed."""
        codes = [process.exitcode for process in self._processes]
        ended = [code for code in codes if code is not None]
        if len(ended) == len(codes):
            return self._outcome(ended)
        if (
            any(ended)
            and self._kill_at_seconds is None
            and not clean(ended, told_to_stop=self._told_to_stop is not None)
        ):
            self._kill_within(_FAILURE_GRACE_SECONDS)
        if self._kill_at_seconds is not None and time.monotonic() >= self._kill_at_seconds:
            self._kill()
            if time.monotonic() >= self._kill_at_seconds + _KILLED_SECONDS:
                message = f"workers cannot be killed: they hang in the kernel since {_KILLED_SECONDS:g} s"
                return Outcome(End.STUCK, EXIT_FAILED, Reason.NODE_LOST, message)
        return None

    def close(self) -> None:
        """Kill what runs, collect it, and remove the reports."""
        self._kill()
        for process in self._processes:
            process.join(_KILLED_SECONDS)
        for pipe in self._pipes:
            pipe.close()
        self._folder.cleanup()

    @property
    def any_killed(self) -> bool:
        """Whether a worker ended without a chance to tidy the terminal."""
        return bool(self._killed)

    def dump_stacks(self) -> None:
        """Have every worker write the stacks of its threads to where it reports; works under a held GIL."""
        for process in self._processes:
            if process.exitcode is None and process.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it ends just now
                    os.kill(process.pid, signal.SIGUSR1)

    def stacks(self) -> dict[int, str]:
        """What `dump_stacks` brought, by rank."""
        found = {}
        for rank in range(self._first_rank, self._first_rank + len(self._processes)):
            path = stacks_file(Path(self._folder.name), rank)
            found[rank] = path.read_text(errors="replace") if path.exists() else ""
        return found

    def _outcome(self, codes: list[int]) -> Outcome:
        return judge(
            {self._first_rank + local: code for local, code in enumerate(codes)},
            {self._first_rank + local for local in self._killed},
            read_reports(Path(self._folder.name)),
            told_to_stop=self._told_to_stop,
            stopped_by=self._stopped_by,
            hung=self._hung,
        )

    def _kill_within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._kill_at_seconds = min(deadline, self._kill_at_seconds or deadline)

    def _kill(self) -> None:
        for rank, process in enumerate(self._processes):
            if process.exitcode is None:
                self._killed.add(rank)
                kill(process)


def judge(
    codes: Mapping[int, int],
    killed: Collection[int],
    reports: Sequence[Report],
    *,
    told_to_stop: Reason | None = None,
    stopped_by: tuple[Reason, str] | None = None,
    hung: str | None = None,
) -> Outcome:
    """How workers ended, from their exit codes by rank and what they wrote down.

    killed: ranks that the launcher killed itself, `stopped_by`: because a peer elsewhere is gone; `hung`: because they
    made no progress; else because another one failed or their time to save was up.
    """
    own = {rank: code for rank, code in codes.items() if rank not in killed}
    message = "\n".join(explain(own, reports, stopped=told_to_stop is not None))
    if EXIT_USER_ERROR in own.values():
        return Outcome(End.INVALID, EXIT_USER_ERROR, Reason.CONFIG_INVALID, message)
    if any(report.reason is Reason.FENCED for report in reports):
        return Outcome(End.FENCED, EXIT_FAILED, Reason.FENCED, message)
    if hung is not None:
        return Outcome(End.FAILED, EXIT_FAILED, Reason.HUNG, hung)
    if stopped_by is not None and killed:
        return Outcome(End.STOPPED, EXIT_FAILED, *stopped_by)
    if all(code == EXIT_FINISHED for code in codes.values()):
        return Outcome(End.FINISHED, EXIT_FINISHED)
    if clean(codes.values(), told_to_stop=told_to_stop is not None):
        return Outcome(End.PREEMPTED, EXIT_PREEMPTED, told_to_stop or Reason.PREEMPTED)
    if told_to_stop is not None and clean(own.values(), told_to_stop=True):
        late = "not saved within elastic.grace_seconds: killed; what came after the newest checkpoint is done again"
        return Outcome(End.STOPPED, EXIT_FAILED, told_to_stop, late)
    return Outcome(End.FAILED, EXIT_FAILED, _reason(own, reports), message)


def clean(codes: Iterable[int], *, told_to_stop: bool) -> bool:
    """Whether nobody failed: one that SIGTERM ended as it was told to stop had not begun, so nothing was lost."""
    fine = {EXIT_FINISHED, EXIT_PREEMPTED} | ({-signal.SIGTERM} if told_to_stop else set())
    return all(code in fine for code in codes)


def explain(codes: Mapping[int, int], reports: Iterable[Report], *, stopped: bool) -> list[str]:
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
    return lines + [report.message for report in causes(reports)[:1]]


def causes(reports: Iterable[Report]) -> list[Report]:
    """Reports, the likeliest cause first."""
    return sorted(reports, key=lambda report: (report.exit_code != EXIT_USER_ERROR, report.time_ns))


def _reason(codes: Mapping[int, int], reports: Iterable[Report]) -> Reason:
    """What the likeliest cause says, unless somebody was killed from outside."""
    found = causes(reports)
    return found[0].reason if found and min(codes.values(), default=0) >= 0 else Reason.WORKER_FAILED


def write_report(folder: Path, report: Report) -> None:
    """Called by a worker before it ends with an error. OSError where nothing can be written."""
    folder.mkdir(parents=True, exist_ok=True)  # what tidies temporary folders may have taken it
    partial = folder / f".rank-{report.rank:05d}.json"
    partial.write_text(json.dumps(asdict(report)))
    partial.rename(folder / f"rank-{report.rank:05d}.json")


def read_reports(folder: Path) -> list[Report]:
    """The reports of all ranks that wrote one."""
    documents = (json.loads(path.read_text()) for path in folder.glob("rank-*.json"))
    return [Report(**{**document, "reason": Reason(document["reason"])}) for document in documents]


def stacks_file(folder: Path, rank: int) -> Path:
    """Where a rank writes the stacks of its threads on SIGUSR1."""
    return folder / f"stacks-{rank:05d}.txt"
