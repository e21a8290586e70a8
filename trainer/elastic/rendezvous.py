"""Plain torchrun over our coordinator: `torchrun --rdzv-backend gpt-run --rdzv-endpoint HOST:29400 ...`.

Registered under torch's entry point `torchrun.handlers`. torchrun keeps its own ways (it notices what the coordinator
says within its monitor interval, imports torch anew for each worker, spends a restart for every loss); what it gains is
that no node is special and that a coordinator's death disturbs nobody. Only public names of torch are used.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable

import torch.distributed as dist
from pydantic import BaseModel
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
)

from trainer.addresses import joined, parted
from trainer.elastic import messages
from trainer.elastic.launcher import BEAT_SECONDS
from trainer.elastic.link import Link
from trainer.elastic.messages import Beat, Bye, Ended, Hello, Over, Ready, Refused, Start, StopWorkers
from trainer.elastic.pod import host_name
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import End, Rules
from trainer.errors import EXIT_FINISHED
from trainer.version import VERSION

BACKEND = "gpt-run"
_POLL_SECONDS = 0.05


def get_handler() -> Callable[[RendezvousParameters], RendezvousHandler]:
    """What torch's entry point asks for."""
    return CoordinatorRendezvous


class CoordinatorRendezvous(RendezvousHandler):
    """One torchrun agent's place in our rounds; a thread keeps it alive while torchrun is busy."""

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._parameters = parameters
        self._patience_seconds = float(parameters.get_as_int("join_timeout", 600) or 600)
        self._id = uuid.uuid4().hex
        self._link = Link(*parted(parameters.endpoint), self._introduction)
        self._store: dist.TCPStore | None = None  # type: ignore[name-defined]  # exported where torch has it
        self._ready: Ready | None = None
        self._start: Start | None = None
        self._start_is_new = False
        self._told_to_restart = False
        self._over: Over | Refused | None = None
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="rendezvous", daemon=True)
        self._thread.start()

    def get_backend(self) -> str:
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        """Workers use the first agent's store, which was open before anybody joined: no port race."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        with self._changed:
            if self._start is not None:
                # torchrun does not tell a handler why it comes again.
                end = End.PREEMPTED if self._told_to_restart else End.FAILED
                reason = Reason.SCALED if self._told_to_restart else Reason.WORKER_FAILED
                self._link.send(Ended(round=self._start.round, end=end, reason=reason, message="torchrun restarts"))
            self._start, self._ready, self._told_to_restart = None, None, False
            deadline = time.monotonic() + self._patience_seconds
            while not self._start_is_new:
                if self._over is not None:
                    raise RendezvousClosedError(self._over.message)
                if time.monotonic() > deadline:
                    raise RendezvousTimeoutError(self._link.error or f"no round in {self._patience_seconds:g} s")
                self._changed.wait(_POLL_SECONDS)
            self._start_is_new = False
            return self._info(self._start)

    def is_closed(self) -> bool:
        return self._over is not None

    def set_closed(self) -> None:
        """Nothing: an agent that is out of restarts must not end the run for the others."""

    def num_nodes_waiting(self) -> int:
        """1 once the coordinator wants this round to end; 0 while it is away."""
        return int(self._told_to_restart)

    def get_run_id(self) -> str:
        return str(self._parameters.run_id)

    def shutdown(self) -> bool:
        with self._changed:
            if self._start is not None:
                # torchrun comes here with its error on the way out, or because all its workers have finished.
                end = End.FINISHED if sys.exc_info()[0] is None else End.FAILED
                self._link.send(Ended(round=self._start.round, end=end, reason=Reason.WORKER_FAILED))
        self._closing.set()
        self._thread.join()
        return True

    def _info(self, start: Start | None) -> RendezvousInfo:
        assert start is not None
        host, port = parted(start.endpoint)
        store = dist.TCPStore(host, port, is_master=False)  # type: ignore[attr-defined]
        rank = start.seats.index(self._id)
        return RendezvousInfo(store, rank, len(start.seats), RendezvousStoreInfo(host, port))

    def _keep_up(self) -> None:
        """The thread: connect, say that we are alive, take messages."""
        beat_at = 0.0
        while not self._closing.wait(_POLL_SECONDS):
            with self._changed:
                now = time.monotonic()
                self._link.keep_up(now)
                if now >= beat_at:
                    beat_at = now + BEAT_SECONDS
                    self._link.send(Beat())
                if self._link.connected and self._start is None and self._ready is None:
                    self._say_ready()
                for message in self._link.receive():
                    self._take(message)
                self._changed.notify_all()
        self._link.send(Bye())
        self._link.close()

    def _say_ready(self) -> None:
        host = self._link.local_host
        self._store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
        self._ready = Ready(endpoint=joined(host, self._store.port))
        self._link.send(self._ready)

    def _take(self, message: messages.FromCoordinator) -> None:
        match message:
            case Start():
                self._start, self._start_is_new, self._ready = message, True, None
            case StopWorkers(round=round_id):
                if self._start is not None and self._start.round == round_id:
                    self._told_to_restart = True
                else:
                    self._link.send(Ended(round=round_id, end=End.STOPPED))
            case Over(exit_code=code):
                self._over = message
                self._told_to_restart = code != EXIT_FINISHED
            case Refused():
                self._over = message

    def _introduction(self) -> list[BaseModel]:
        rules = Rules()
        hello = Hello(
            protocol=messages.PROTOCOL,
            run=self.get_run_id(),
            version=VERSION,
            config_sha256="",
            id=self._id,
            host=host_name(),
            slots=1,
            min_nodes=self._parameters.min_nodes,
            max_nodes=self._parameters.max_nodes,
            budget_failures=rules.budget_failures,
            budget_window_seconds=rules.budget_window_seconds,
            claim=self._start.claim(took_step=True) if self._start is not None else None,
        )
        return [hello, *([self._ready] if self._ready is not None else [])]
