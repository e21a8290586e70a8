"""One rank under Ray: what runs inside Ray's worker actor.

Ray calls `train_rank` in a thread of the actor, where no signal handler can be set; a wish to stop comes through the
desk (rank 0) or by a call of `ask_to_stop` in the actor's main thread. All module state is of this one process, which
serves one rank of one group. Torch is imported inside functions: the controller imports this module too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.actor import ActorHandle
from ray.exceptions import RayError

from trainer.config import RunConfig
from trainer.elastic.launcher import BEAT_SECONDS, LAUNCHED_VARIABLE, PREVIOUS_END_VARIABLE
from trainer.elastic.pod import host_name
from trainer.elastic.pulse import Pulse
from trainer.elastic.signals import StopFlag
from trainer.elastic.workers import Report
from trainer.ray.desk import Desk

_GROUP_VARIABLE = "GPTRUN_RAY_GROUP"
_STDERR = 2
# Setting the alarm anew starts a thread; often enough is once a second.
_ALARM_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """What the driver has all workers do."""

    config_json: str
    folder: str
    """The driver's working folder, which relative paths begin at."""
    command: str
    """What the user would type to go on."""
    desk: ActorHandle[Desk]


@dataclass(frozen=True)
class Meeting:
    """Where and how the workers of a group come together."""

    group: str
    host: str
    port: int
    """Of the store of the process group."""
    use_gpu: bool
    previous_end: dict[str, Any] | None
    launched_at: float
    """When the driver started, seconds since the epoch."""


class State(StrEnum):
    """What a worker answers the controller."""

    STARTING = "starting"
    TRAINING = "training"
    ENDED = "ended"
    LOST = "lost"


class WorkerEnded(Exception):
    """A rank ended before the run did, and has written down why; crosses process boundaries."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return self.report.message or f"rank {self.report.rank} stopped before its first step"


class _Process:
    """The state of this worker process."""

    flag = StopFlag()
    store: Any = None
    """Torch's, kept open."""
    end: State | WorkerEnded | None = None


def place() -> tuple[str, str]:
    """(node, host) of this worker."""
    return ray.get_runtime_context().get_node_id(), host_name()


def open_store() -> tuple[str, int]:
    """Open the store where the process group meets; (host, port)."""
    import torch.distributed as dist

    host = ray.util.get_node_ip_address()
    store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    _Process.store = store
    return host, store.port


def enter(meeting: Meeting) -> None:
    """Set the environment that the train loop reads, as the launcher does for its workers."""
    context = ray.train.get_context()
    os.environ |= {
        "RANK": str(context.get_world_rank()),
        "WORLD_SIZE": str(context.get_world_size()),
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
        "MASTER_ADDR": meeting.host,
        "MASTER_PORT": str(meeting.port),
        # The store is open: without this rank 0 would open a second one.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        PREVIOUS_END_VARIABLE: json.dumps(meeting.previous_end),
        LAUNCHED_VARIABLE: str(meeting.launched_at),
        _GROUP_VARIABLE: meeting.group,
    }
    if not meeting.use_gpu:
        # Ray leaves a machine's GPUs in sight of workers that asked for none.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def state() -> State | WorkerEnded:
    """How far this worker is."""
    return _Process.end or (State.TRAINING if _Process.flag.armed else State.STARTING)


def ask_to_stop() -> State | WorkerEnded:
    """Have this worker save and stop; what it was doing."""
    _Process.flag.requested = True
    return state()


def train_rank(task: dict[str, Task]) -> int:
    """One rank from the process group to the exit code, 0 or 75; raises WorkerEnded for any other end."""
    from trainer.metrics.console import configure_logging
    from trainer.train.worker import report_of, run_attempt

    rank = int(os.environ["RANK"])
    configure_logging(rank)
    work = task["task"]
    config = RunConfig.model_validate_json(work.config_json)
    # Machines share the folder or none of it: then paths are absolute or URLs.
    with contextlib.suppress(OSError):
        os.chdir(Path(work.folder))
    desk = work.desk if rank == 0 else None
    pulse = RayPulse(desk, os.environ[_GROUP_VARIABLE], _Process.flag, config.elastic.hang_seconds)
    try:
        code = run_attempt(config, _Process.flag, pulse, command=work.command)
        _Process.end = State.ENDED
    except Exception as error:
        _Process.end = WorkerEnded(report_of(error, rank))
        # Ray would print it for every rank, with a traceback of this line; the driver says once what ended the run.
        logging.getLogger("ray.train").setLevel(logging.CRITICAL)
        raise _Process.end from None
    finally:
        pulse.close()
    return code


class RayPulse(Pulse):
    """What a rank says while it works: rank 0 to the desk, every rank to an alarm that silence sets off."""

    def __init__(self, desk: ActorHandle[Desk] | None, group: str, flag: StopFlag, hang_seconds: float) -> None:
        super().__init__()
        self._desk = desk
        self._group = group
        self._flag = flag
        self._hang_seconds = hang_seconds
        self._alarm_set_at = 0.0
        self._unsent: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._set_alarm()
        if desk is not None:
            threading.Thread(target=self._report, name="pulse", daemon=True).start()

    def tell(self, **fields: Any) -> None:
        """Note what changed; never waits."""
        self._set_alarm()
        if self._desk is not None:
            with self._lock:
                self._unsent.update(fields)

    def close(self) -> None:
        """Say the last of it."""
        faulthandler.cancel_dump_traceback_later()
        self._closed.set()
        self._send()

    def _set_alarm(self) -> None:
        """A rank that hangs writes the stacks of its threads to its log and ends, even under a held GIL."""
        now = time.monotonic()
        if now - self._alarm_set_at >= min(_ALARM_SECONDS, self._hang_seconds / 2):
            self._alarm_set_at = now
            faulthandler.dump_traceback_later(self._hang_seconds, exit=True, file=_STDERR)

    def _report(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            self._send()

    def _send(self) -> None:
        if self._desk is None:
            return
        with self._lock:
            fields, self._unsent = self._unsent, {}
        # Without a desk there is no driver, and Ray is about to end this process.
        with contextlib.suppress(RayError):
            if ray.get(self._desk.tell.remote(self._group, fields)):
                self._flag.requested = True
