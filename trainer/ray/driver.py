"""The driver behind `gpt-run ray`: has Ray Train place a world of workers, watches it, and places the next one.

Read `Driver.run` from top to bottom. One `fit` of Ray Train is one world, or several of growing or shrinking size while
nothing fails; every other end comes back here, where it means what it means to the coordinator (`trainer.ray.rounds`).
Ray's own retries are off: they know neither wrong input nor a budget per hour. Its checkpoints are unused: ours carry
the run from one world to the next, and the attempt claims in the store keep two drivers from both writing.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import ObjectRef
from ray._private.state import state as cluster_state
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

from trainer import config as run_config
from trainer.checkpoint.attempts import Attempt, claim_numbers, read_claim
from trainer.checkpoint.store import open_run
from trainer.elastic.messages import PastFailure
from trainer.elastic.pod import explain_end
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import Decision, End, Finish, Rules, Stop, Wait, cause
from trainer.elastic.signals import StopSignals
from trainer.elastic.status import RunStatus
from trainer.elastic.workers import Report
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, Fenced, as_error
from trainer.metrics.process import process_started
from trainer.ray.desk import Mail, News, open_desk
from trainer.ray.group import GroupConfig
from trainer.ray.rounds import Broken, Clean, Died, Group, Rounds
from trainer.ray.worker import Task, WorkerEnded, train_rank
from trainer.storage_errors import may_heal

_LOOK_SECONDS = 0.2
# Ray is asked for nodes that are about to go this often.
_DRAIN_LOOK_SECONDS = 1.0
# After this the user is told that the cluster is too small.
_PATIENCE_SECONDS = 20.0
_WORKER_PHASES_WITH_STEPS = ("training", "evaluating", "saving")


@dataclass(frozen=True)
class RayJob:
    """What `gpt-run ray` runs."""

    config: run_config.RunConfig
    command: str
    """What the user would type to go on."""
    min_workers: int
    max_workers: int
    use_gpu: bool
    resize_seconds: float
    """How often Ray looks whether the cluster has room for more workers."""


class Driver:
    """One run under Ray, in a process that is connected to a cluster."""

    def __init__(self, job: RayJob, status: RunStatus, signals: StopSignals) -> None:
        self._job = job
        self._status = status
        self._signals = signals
        budget = job.config.elastic.budget
        self._rounds = Rounds(
            Rules(
                min_nodes=job.min_workers,
                max_nodes=job.max_workers,
                budget_failures=budget.failures,
                budget_window_seconds=budget.window_seconds,
            )
        )
        self._desk = open_desk()
        self._here = ray.get_runtime_context().get_node_id()
        self._attempt: int | None = None
        """The newest that workers of this driver have claimed."""
        self._phase = ""
        self._decision: Decision = Wait("")
        self._drain_look_at = 0.0
        self._own_node_drains = False

    def run(self) -> int:
        """Train until the run is over or this driver is told to stop; the exit code."""
        self._signals.arm()
        with tempfile.TemporaryDirectory(prefix="gpt-run-ray-") as folder:
            while True:
                fit = _Fit(self._trainer(folder))
                ended = self._attend(fit)
                if not ended:
                    return self._leave()
                self._hear()
                decision = self._judge(fit)
                if isinstance(decision, Finish):
                    return self._over(decision)
                if self._told_to_stop:
                    return self._exit_code_of_stop()
                fenced = self._fence()
                if fenced is not None:
                    return self._over(Finish(EXIT_FAILED, Reason.FENCED, fenced))

    def _trainer(self, folder: str) -> DataParallelTrainer:
        job = self._job
        task = Task(job.config.model_dump_json(), str(Path.cwd()), job.command, self._desk)
        elastic = job.min_workers < job.max_workers
        # Any: the trainer is annotated with the class of Ray Train's first version.
        settings: Any = RunConfig(
            name=job.config.name,
            storage_path=folder,
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
            logging_config=LoggingConfig("WARNING"),
        )
        return DataParallelTrainer(
            train_rank,
            train_loop_config={"task": task},
            backend_config=GroupConfig(
                desk=self._desk,
                use_gpu=job.use_gpu,
                grace_seconds=job.config.elastic.grace_seconds,
                previous_end=self._rounds.previous_end,
                launched_at=process_started().timestamp(),
            ),
            scaling_config=ScalingConfig(
                num_workers=(job.min_workers, job.max_workers) if elastic else job.max_workers,
                use_gpu=job.use_gpu,
                elastic_resize_monitor_interval_s=job.resize_seconds,
            ),
            run_config=settings,
        )

    def _attend(self, fit: _Fit) -> bool:
        """Watch until Ray is done; False: there is no time or no need to wait for that."""
        self._phase, self._decision = "", Wait("")
        started = time.monotonic()
        stop_by: float | None = None
        told_of_waiting = False
        fit.start()
        while fit.is_alive():
            fit.join(_LOOK_SECONDS)
            self._hear()
            self._look_for_drains()
            now = time.monotonic()
            if self._rounds.group is None and not told_of_waiting and now - started > _PATIENCE_SECONDS:
                told_of_waiting = True
                _say(f"waiting for room for {self._job.min_workers} workers; the cluster has {_resources()}")
            if self._told_to_stop and stop_by is None:
                if self._phase not in _WORKER_PHASES_WITH_STEPS:
                    return False
                _say("stopping after this step and a save; one more Ctrl+C quits at once")
                self._stop("the driver was told to stop")
                stop_by = now + self._job.config.elastic.grace_seconds
            if self._signals.insisted or (stop_by is not None and now > stop_by):
                return False
            self._show()
        return True

    @property
    def _told_to_stop(self) -> bool:
        return self._signals.requested or self._own_node_drains

    def _hear(self) -> None:
        """Take in what the controller and rank 0 left at the desk."""
        now = time.monotonic()
        read: ObjectRef[Mail] = self._desk.read.remote()
        mail = ray.get(read)
        for news in mail.unread:
            if isinstance(news, Group):
                reason = self._rounds.begin(news, now)
                self._status.round_formed(reason)
                hosts = ", ".join(sorted({place.host for place in news.places}))
                self._phase, self._decision = "starting", Wait("")
                _say(
                    f"round {self._number}: {len(news.places)} workers on {hosts}" + (f" ({reason})" if reason else "")
                )
            elif self._rounds.group is not None and news.group == self._rounds.group.id:
                self._take(news, now)
        if self._rounds.group is not None and mail.group == self._rounds.group.id:
            self._rounds.heard(now - mail.silent_seconds)

    def _take(self, news: News, now: float) -> None:
        fields = news.fields
        if "failures" in fields:
            self._rounds.remember([PastFailure(**failure) for failure in fields.pop("failures")], now)
        if "attempt" in fields:
            self._attempt = int(str(fields["attempt"])[1:])
        if "step" in fields:
            self._rounds.beat(int(fields["step"]), bool(fields.get("took_step")), now)
        self._phase = fields.get("phase", self._phase)
        self._status.report(fields)

    def _look_for_drains(self) -> None:
        """A node that is about to go (its pod was deleted, say): have the workers save before it does."""
        now = time.monotonic()
        if now < self._drain_look_at:
            return
        self._drain_look_at = now + _DRAIN_LOOK_SECONDS
        draining = cluster_state.get_draining_nodes()
        self._own_node_drains = self._own_node_drains or self._here in draining
        group = self._rounds.group
        if group is not None and any(place.node in draining for place in group.places):
            self._stop("a node is about to go")

    def _stop(self, why: str) -> None:
        """Have the workers save and stop; says it once a group."""
        group = self._rounds.group
        if group is not None and not isinstance(self._decision, Stop):
            nodes = tuple({place.node for place in group.places})
            self._decision = Stop(nodes, save=True, reason=Reason.PREEMPTED, message=why)
            _say(f"{Reason.PREEMPTED}: {why}; {len(group.places)} workers save and stop")
            ray.get(self._desk.stop.remote(group.id))

    def _judge(self, fit: _Fit) -> Decision:
        """What the end of a world means for the run."""
        how = fit.outcome()
        decision = self._rounds.end(how, time.monotonic())
        assert self._rounds.seen.round is not None
        end = cause(self._rounds.seen.round)
        if isinstance(how, Broken) and end.end is not End.PREEMPTED:
            self._status.error(EXIT_FAILED, end.reason, end.message)
            if not isinstance(decision, Finish) or end.message not in decision.message:
                _say(f"{end.reason}: {end.message}")
        self._decision = decision
        self._show()
        return decision

    def _over(self, finish: Finish) -> int:
        self._decision = finish
        self._show()
        if finish.exit_code != EXIT_FINISHED:
            _say(as_error(finish.message))
            explain_end(finish.message)
        return finish.exit_code

    def _leave(self) -> int:
        """This driver is to stop, and its workers have nothing to save, or no time: they end with it."""
        if self._phase in _WORKER_PHASES_WITH_STEPS:
            why = "a second Ctrl+C" if self._signals.insisted else "not saved within elastic.grace_seconds"
            return self._over(Finish(EXIT_FAILED, Reason.PREEMPTED, f"{why}: ended without a save"))
        return EXIT_PREEMPTED

    def _exit_code_of_stop(self) -> int:
        """Of a run that is not over: 75 if its workers saved, or had not begun."""
        assert self._rounds.seen.round is not None
        return EXIT_PREEMPTED if cause(self._rounds.seen.round).end is End.PREEMPTED else EXIT_FAILED

    def _fence(self) -> str | None:
        """Who has claimed the run since this driver's workers did; None if nobody has."""
        if self._attempt is None:
            return None
        try:
            run = open_run(self._job.config.checkpoint.store, self._job.config.name)
            if self._attempt in claim_numbers(run):
                Attempt(run, read_claim(run, self._attempt)).check_fence()
        except Fenced as fenced:
            return str(fenced)
        except Exception as error:
            if not may_heal(error):
                raise
            _say(f"WARNING the store cannot be asked who owns the run: {error}")
        return None

    @property
    def _number(self) -> int:
        return self._rounds.seen.round.number if self._rounds.seen.round is not None else 0

    def _show(self) -> None:
        self._status.look_at(self._job.config.name, self._rounds.seen, self._decision, time.monotonic())


class _Fit(threading.Thread):
    """One call of Ray Train. In a thread: the main one looks after signals, and Ray would take Ctrl+C over."""

    def __init__(self, trainer: DataParallelTrainer) -> None:
        super().__init__(name="ray-train", daemon=True)
        self._trainer = trainer
        self._exit_code: int | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        """Wait for the end of training."""
        try:
            result: Any = self._trainer.fit()
            self._exit_code = result.return_value
        except Exception as error:
            self._error = error

    def outcome(self) -> Clean | Broken:
        """How it ended."""
        error = self._error
        if isinstance(error, ControllerError):
            error = error.controller_failure
        match error:
            case None:
                assert self._exit_code is not None
                return Clean(self._exit_code)
            case WorkerGroupError(worker_failures=failures):
                return Broken({rank: _found(rank, failure) for rank, failure in failures.items()})
            case WorkerEnded(report=report):
                return Broken({report.rank: report})
            case PreemptionError():
                return Broken({}, f"nodes went before their workers had saved: {error}", Reason.NODE_LOST)
            case RayActorError():
                return Broken({}, f"Ray's controller is gone: {error}", Reason.COORDINATOR_LOST)
            case _:
                return Broken({}, f"Ray Train: {type(error).__name__}: {error}")


def _found(rank: int, failure: Exception) -> Report | Died:
    """What Ray tells of a rank."""
    if isinstance(failure, WorkerEnded):
        return failure.report
    # Ray wraps the death of a worker in the failure of its health check.
    failure = getattr(failure, "health_check_failure", failure)
    # Without Ray's list of what may have been the cause.
    said = " ".join(str(failure).partition(" Some common causes")[0].split())
    message = f"error: rank {rank} died: {said}"
    if isinstance(failure, OutOfMemoryError):
        return Died(message, Reason.OUT_OF_MEMORY)
    gone = isinstance(failure, ActorUnavailableError) or (isinstance(failure, RayActorError) and failure.preempted)
    if gone or "node has died" in str(failure):
        return Died(message, Reason.NODE_LOST)
    return Died(message, Reason.WORKER_FAILED)


def _resources() -> str:
    """GPUs and CPUs of the cluster, in words."""
    found = ray.cluster_resources()
    return f"{found.get('GPU', 0):g} GPUs and {found.get('CPU', 0):g} CPUs on {len(ray.nodes())} nodes"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
