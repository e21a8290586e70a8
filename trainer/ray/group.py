"""What Ray Train calls when it starts and stops a group of workers; runs in Ray's controller process.

Ray's own `TorchConfig` would open the process group itself, in another thread and with other settings than the train
loop's. This backend only tells each worker its rank and the address to meet at, as the launcher does through the
environment, and uses the one chance that Ray gives before it resizes a group: have the workers save.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError
from ray.train.backend import Backend, BackendConfig

from trainer.elastic.reasons import Reason
from trainer.errors import EXIT_PREEMPTED
from trainer.ray import worker
from trainer.ray.desk import Desk
from trainer.ray.rounds import Group, Place
from trainer.ray.worker import State, WorkerEnded

_LOOK_SECONDS = 0.1
# A worker that does not answer within this is taken for dead.
_ANSWER_SECONDS = 5.0


@dataclass
class GroupConfig(BackendConfig):
    """What the controller needs to know."""

    desk: ActorHandle[Desk]
    use_gpu: bool
    grace_seconds: float
    """How long workers may take to save before a resize."""
    previous_end: dict[str, Any] | None
    """{reason, counted, message} of the attempt before, for the next claim; None if nothing went before."""
    launched_at: float
    """When the driver started, seconds since the epoch."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that acts on it."""
        return GroupBackend


class GroupBackend(Backend):
    """Starts and stops groups."""

    # NCCL's peer-to-peer transports want all GPUs of the node in sight; a worker picks its own by local rank.
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Tell each worker its place among the others."""
        assert isinstance(backend_config, GroupConfig)
        places = worker_group.execute(worker.place)
        # On a port that the kernel chose, in the process that all others will look for there: no race for a port.
        host, port = worker_group.execute_single(0, worker.open_store)
        group = Group(uuid.uuid4().hex, tuple(Place(rank, *where) for rank, where in enumerate(places)))
        config = backend_config
        meeting = worker.Meeting(group.id, host, port, config.use_gpu, config.previous_end, config.launched_at)
        worker_group.execute(worker.enter, meeting)
        ray.get(backend_config.desk.begin.remote(group))

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Before a group is killed. If all of it is alive and at work, Ray resizes it: nothing need be lost."""
        assert isinstance(backend_config, GroupConfig)
        states = _ask(worker_group, worker.ask_to_stop)
        if not {*states} <= {State.STARTING, State.TRAINING}:
            return
        if State.STARTING not in states:
            deadline = time.monotonic() + backend_config.grace_seconds
            while State.TRAINING in states and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
                states = _ask(worker_group, worker.state)
        for state in states:
            if isinstance(state, WorkerEnded) and state.report.exit_code != EXIT_PREEMPTED:
                # Ray would go on with the next group, but a run that was fenced must not be claimed again.
                raise state
        backend_config.previous_end = {"reason": Reason.SCALED, "counted": False, "message": ""}


def _ask(worker_group: Any, question: Any) -> list[State | WorkerEnded]:
    """What all workers answer; LOST for all of them if one does not."""
    answers = worker_group.execute_async(question)
    try:
        found: list[State | WorkerEnded] = ray.get(answers, timeout=_ANSWER_SECONDS)
    except (RayActorError, GetTimeoutError):
        return [State.LOST] * len(answers)
    return found
