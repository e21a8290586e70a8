"""The launcher behind `gpt-run train`: joins rounds, runs their workers, turns the run's end into an exit code.

Read `Launcher.run` from top to bottom. One loop, no threads: it looks at signals, the coordinator's messages and the
workers, twenty times a second and whenever one of them stirs. It is the pod's PID 1, so it also collects orphans.
"""

from __future__ import annotations

import json
import math
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from typing import Any, TypeGuard

from pydantic import BaseModel

from trainer.addresses import joined, parted
from trainer.elastic import messages
from trainer.elastic.forks import Forks
from trainer.elastic.link import Link
from trainer.elastic.messages import (
    Beat,
    Bye,
    Ended,
    Failures,
    Hello,
    Leaving,
    Over,
    Ready,
    Refused,
    Start,
    StopWorkers,
    Waiting,
)
from trainer.elastic.pod import collect_orphans, explain_end, host_name
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import End
from trainer.elastic.signals import StopSignals
from trainer.elastic.workers import Outcome, RoundStore, Workers
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, UserError, as_error
from trainer.metrics.process import process_started

PREVIOUS_END_VARIABLE = "GPTRUN_PREVIOUS_END"
# When this launcher started, seconds since the epoch: since then its machine is held.
LAUNCHED_VARIABLE = "GPTRUN_LAUNCHED_AT"
_LOOK_SECONDS = 0.05
BEAT_SECONDS = 0.3
# Pods start in any order, and a new coordinator's name takes a while to resolve.
_COORDINATOR_SECONDS = 300.0
# Between two tries of a launcher that has to wait for others to leave.
_REFUSED_SECONDS = 5.0
# How long workers that have finished wait for the coordinator's word that all have.
_GOODBYE_SECONDS = 30.0
# Writing the stacks of a hung process takes the kernel and the interpreter a moment.
_DUMP_SECONDS = 1.0
_MESSAGE_CHARACTERS = 4000
_SHOW_CURSOR = "\x1b[?25h"


@dataclass(frozen=True)
class Job:
    """What this launcher brings into a run."""

    run: str
    version: str
    config_sha256: str
    function: str
    """`module:name` that a worker calls with the pipe of its pulse and `arguments`."""
    arguments: tuple[Any, ...]
    slots: int
    min_nodes: int
    max_nodes: int
    grace_seconds: float
    hang_seconds: float
    budget_failures: int
    budget_window_seconds: float
    patient: bool
    """Wait where launchers of other settings train, until they are gone: an orchestrator replaces them one by one."""


class Launcher:
    """One machine's part in a run."""

    def __init__(self, job: Job, *, coordinator: tuple[str, int], preload: str, signals: StopSignals) -> None:
        self._job = job
        self._id = uuid.uuid4().hex
        self._host = host_name()
        self._signals = signals
        self._forks = Forks(preload, processes=job.slots)
        self._link = Link(*coordinator, self._introduction)
        self._beat_at = 0.0
        self._step = 0
        self._took_step = False
        self._start: Start | None = None
        """The round whose workers run, or whose end has to be told."""
        self._ended: Ended | None = None
        self._ready: Ready | None = None
        self._leaving = False
        self._over: Over | Refused | None = None
        self._waiting_for: str | None = None
        self._complaint = ""
        """What the user was told of this machine's workers."""
        self._status: dict[str, Any] = {}
        self._store: RoundStore | None = None

    def run(self) -> int:
        """Take part in the run until it is over or this machine is told to stop; the exit code."""
        self._signals.arm()
        outcome: Outcome | None = None
        try:
            while (start := self._next_round()) is not None:
                outcome = self._train(start)
                self._tell(outcome)
                if self._over is not None or self._signals.requested or outcome.end is End.STUCK:
                    break
            return self._exit_code(outcome)
        finally:
            if self._store is not None:
                self._store.close()
            self._link.send(Bye())
            self._link.close()

    def _next_round(self) -> Start | None:
        """Say that this launcher is ready, and wait for a round. None: the run is over, or this machine is to stop."""
        self._ready = None
        patience_ends = time.monotonic() + _COORDINATOR_SECONDS
        finished = self._ended is not None and self._ended.end is End.FINISHED
        while self._over is None and not self._signals.requested:
            for message in self._look([]):
                if isinstance(message, Start):
                    return message
            if finished:
                # All ranks leave together: only a coordinator that is away cannot say so.
                if time.monotonic() > patience_ends - _COORDINATOR_SECONDS + _GOODBYE_SECONDS:
                    return None
            elif self._link.connected:
                patience_ends = time.monotonic() + _COORDINATOR_SECONDS
                if self._ready is None and self._forks.warm:
                    self._say_ready()
            elif self._link.error is not None and self._link.error != self._waiting_for:
                self._waiting_for = self._link.error
                self._say(f"{self._link.error}; trying for {_COORDINATOR_SECONDS:.0f} s")
            elif time.monotonic() > patience_ends:
                self._over = self._without_coordinator()
        return None

    def _without_coordinator(self) -> Over:
        """The end of a launcher that has waited long enough; UserError for an address that nobody knows."""
        found = f"{self._link.error}, for {_COORDINATOR_SECONDS:.0f} s"
        if self._link.unknown_host:
            raise UserError(
                found,
                expected="the address of a machine that runs `gpt-run coordinator`",
                fix="correct --coordinator (PET_RDZV_ENDPOINT)",
            )
        return Over(exit_code=EXIT_FAILED, reason=Reason.COORDINATOR_LOST, message=found)

    def _say_ready(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = RoundStore(self._forks, self._link.local_host)
        self._ready = Ready(endpoint=joined(self._link.local_host, self._store.port))
        self._link.send(self._ready)

    def _train(self, start: Start) -> Outcome:
        """Run this machine's workers of one round to their end, whoever brings it about."""
        self._start, self._ready, self._ended, self._took_step = start, None, None, False
        self._say(f"round {start.number}: {len(start.seats)} nodes, {start.world_size} workers", log_only=True)
        workers = Workers(self._forks, self._job.function, self._job.arguments, self._environments(start))
        progress_at, dumped_at = time.monotonic(), None
        elsewhere: StopWorkers | None = None
        try:
            while (outcome := workers.poll()) is None:
                for message in self._look(workers.sentinels()):
                    if _tells_of_a_hang(message, start):
                        elsewhere = message
                    else:
                        self._obey(message, workers, start)
                if self._signals.requested:
                    self._leave(workers)
                now = time.monotonic()
                if self._hear(workers) and elsewhere is None:
                    progress_at, dumped_at = now, None
                elif dumped_at is None and (elsewhere is not None or now - progress_at > self._job.hang_seconds):
                    workers.dump_stacks()
                    dumped_at = now
                elif dumped_at is not None and now - dumped_at > _DUMP_SECONDS:
                    self._keep_stacks(workers.stacks())
                    if elsewhere is not None:
                        workers.end_now(elsewhere.reason, elsewhere.message)
                    else:
                        workers.end_hung(f"no progress for {self._job.hang_seconds:g} s (elastic.hang_seconds)")
                    progress_at, dumped_at, elsewhere = math.inf, None, None
            if dumped_at is not None:
                # They ended by themselves, as those do that wait for a rank which has just been ended elsewhere.
                self._keep_stacks(workers.stacks())
            self._hear(workers)
        finally:
            workers.close()
        if workers.any_killed and sys.stdout.isatty():
            print(_SHOW_CURSOR, end="", flush=True)  # which the progress bar of a killed worker has hidden
        return outcome

    def _environments(self, start: Start) -> list[dict[str, str]]:
        host, port = parted(start.endpoint)
        common = {
            "WORLD_SIZE": str(start.world_size),
            "LOCAL_WORLD_SIZE": str(self._job.slots),
            "MASTER_ADDR": host,
            "MASTER_PORT": str(port),
            # Every rank is a client of a launcher's store; without this rank 0 would open a second one.
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            PREVIOUS_END_VARIABLE: json.dumps(start.previous_end),
            LAUNCHED_VARIABLE: str(process_started().timestamp()),
        }
        return [
            {**common, "RANK": str(start.first_rank + local), "LOCAL_RANK": str(local)}
            for local in range(self._job.slots)
        ]

    def _obey(self, message: messages.FromCoordinator, workers: Workers, start: Start) -> None:
        match message:
            case StopWorkers(round=start.round, save=True, reason=reason):
                workers.stop(reason, self._job.grace_seconds)
            case StopWorkers(round=start.round, reason=reason, message=text):
                workers.end_now(reason, text)
            case Over(reason=reason, message=text):
                workers.end_now(reason or Reason.WORKER_FAILED, text)
            case Refused():
                # A new coordinator that does not take us, after an update say.
                workers.stop(Reason.COORDINATOR_LOST, self._job.grace_seconds)

    def _leave(self, workers: Workers) -> None:
        """This machine is to stop: once gently, at once if the user insists."""
        if self._signals.insisted:
            workers.end_now(Reason.PREEMPTED, "a second Ctrl+C: ended without a save")
        elif not self._leaving:
            self._leaving = True
            self._say("stopping after this step and a save; one more Ctrl+C quits at once")
            self._link.send(Leaving())
            workers.stop(Reason.PREEMPTED, self._job.grace_seconds)

    def _hear(self, workers: Workers) -> bool:
        """Take in what workers told; whether there was anything."""
        told = workers.pulse()
        for rank, fields in told:
            if "step" in fields:
                self._took_step = self._took_step or bool(fields.get("took_step"))
                self._step = int(fields["step"])
            if "failures" in fields:
                self._link.send(Failures(failures=fields.pop("failures")))
            if rank == 0 and self._start is not None and self._start.first_rank == 0:
                self._status.update(fields)
        return bool(told)

    def _tell(self, outcome: Outcome) -> None:
        """Tell the user and the coordinator how the workers ended."""
        assert self._start is not None
        if outcome.end in (End.FAILED, End.FENCED, End.INVALID, End.STUCK):
            self._complaint = outcome.message
            self._say(as_error(outcome.message))
        self._ended = Ended(
            round=self._start.round,
            end=outcome.end,
            reason=outcome.reason,
            exit_code=outcome.exit_code,
            message=outcome.message[-_MESSAGE_CHARACTERS:],
        )
        self._link.send(self._ended)

    def _exit_code(self, outcome: Outcome | None) -> int:
        if self._over is not None:
            if self._over.exit_code != EXIT_FINISHED:
                self._complain(self._over.message)
                explain_end(self._over.message, self._over.reason if isinstance(self._over, Over) else None)
            return self._over.exit_code
        if outcome is None or outcome.end is End.PREEMPTED:
            return EXIT_PREEMPTED
        if outcome.end is End.FINISHED:
            return EXIT_FINISHED
        self._complain(outcome.message)
        explain_end(outcome.message)
        return outcome.exit_code

    def _complain(self, message: str) -> None:
        """Say why this machine leaves, unless that was said when its workers ended."""
        if message not in self._complaint:
            self._say(as_error(message))

    def _look(self, sentinels: Sequence[int]) -> list[messages.FromCoordinator]:
        """Wait a moment, or until something stirs; keep the connection alive; the coordinator's messages."""
        wait_for_any([*self._link.waitable(), *sentinels], timeout=_LOOK_SECONDS)
        now = time.monotonic()
        self._link.keep_up(now)
        if now >= self._beat_at:
            self._beat_at = now + BEAT_SECONDS
            self._link.send(Beat(step=self._step, took_step=self._took_step, status=self._status or None))
            if self._link.connected:
                self._status = {}
        collect_orphans()
        found = self._link.receive()
        for message in found:
            if isinstance(message, Refused) and message.later and self._job.patient:
                self._wait_to_be_taken(message.message)
            elif isinstance(message, Over | Refused):
                self._over = message
            elif isinstance(message, Waiting) and message.why != self._waiting_for:
                self._waiting_for = message.why
                self._say(message.why, log_only=True)
            elif isinstance(message, StopWorkers) and (self._start is None or message.round != self._start.round):
                self._link.send(Ended(round=message.round, end=End.STOPPED))
        return found

    def _wait_to_be_taken(self, why: str) -> None:
        """Ask again in a while; ended with a code, this launcher would be started again and again, and each counts."""
        self._link.rest(_REFUSED_SECONDS)
        if why != self._waiting_for:
            self._waiting_for = why
            self._say(f"waiting: {why}")

    def _introduction(self) -> list[BaseModel]:
        """What a new connection begins with."""
        job = self._job
        claim = None
        if self._start is not None and self._ready is None:
            claim = self._start.claim(took_step=self._took_step)
        hello = Hello(
            protocol=messages.PROTOCOL,
            run=job.run,
            version=job.version,
            config_sha256=job.config_sha256,
            id=self._id,
            host=self._host,
            slots=job.slots,
            min_nodes=job.min_nodes,
            max_nodes=job.max_nodes,
            budget_failures=job.budget_failures,
            budget_window_seconds=job.budget_window_seconds,
            step=self._step,
            claim=claim,
        )
        also = [self._ended, Leaving() if self._leaving else None, self._ready]
        return [hello, *(message for message in also if message is not None)]

    def _keep_stacks(self, stacks: dict[int, str]) -> None:
        """Put the stacks of hung workers into the store, from a process of its own: it may hang as well."""
        for rank in stacks:
            self._say(f"stacks of rank {rank} go to the store's logs", log_only=True)
        assert self._start is not None
        arguments = (*self._job.arguments, self._start.number, stacks)
        self._forks.start("gpt-run:stacks", "trainer.elastic.stacks:upload", {}, *arguments)

    def _say(self, message: str, *, log_only: bool = False) -> None:
        """For people; log_only: of interest where several machines take part."""
        if message and not (log_only and self._job.max_nodes == 1):
            print(message, file=sys.stderr, flush=True)


def _tells_of_a_hang(message: messages.FromCoordinator, start: Start) -> TypeGuard[StopWorkers]:
    """Whether workers elsewhere hang: what ours wait for says who keeps whom waiting, so their stacks are kept too."""
    return isinstance(message, StopWorkers) and message.round == start.round and message.reason is Reason.HUNG
