"""Where a campaign's runs happen: what the driver asks of a place, whatever it is made of.

`local` has it on this machine (`tests.faults.local`); on a cluster machines are pods, which Kubernetes starts
(`tests.faults.cluster`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.faults.plan import Fault, Plan
from tests.integration.training import Process, Training

Mend = Callable[[], None]


@dataclass(frozen=True)
class Alone:
    """The run without any faults."""

    steps: Mapping[int, tuple[float, str]]
    """(loss, batch_sha256) by step."""
    seconds: float
    """How long it took, start and end included: what a busy place needs for it."""


class Stage(Protocol):
    """One run, its machines and everything that can break."""

    training: Training
    patience_seconds: float
    """How long a moment may take to come before it is missed."""
    flipped: str | None
    """The checkpoint in which a bit was flipped; None before."""

    def machines(self) -> list[Process]:
        """The machines that are there, ended ones included until they are replaced."""

    def retired(self) -> list[Process]:
        """Machines that have been replaced."""

    def start_missing(self) -> None:
        """Start the run, or again the machines that have ended without having finished, as an orchestrator does.

        GivenUp if nobody would.
        """

    def terminate_all(self) -> None:
        """SIGTERM to every machine."""

    def apply(self, fault: Fault) -> Mend | None:
        """Break something; what mends it, None for what nobody has to mend. Miss if there is nothing to break."""

    def hold(self, text: str) -> None:
        """Keep those who ask for files with `text` in their names waiting until `release`.

        On a disk only for files that are there.
        """

    def held(self) -> int:
        """How many wait."""

    def release(self) -> None:
        """Let them go."""

    def phase(self) -> str:
        """What /status says; "" if nobody answers."""

    def left_behind(self) -> list[str]:
        """Processes, sockets, files, mounts and namespaces that outlived the run. Ends what still has to be ended."""


class Place(Protocol):
    """Makes stages."""

    def cannot(self, plan: Plan) -> str | None:
        """Why a plan cannot be played here; None if it can."""

    def stage(self, plan: Plan, folder: Path, alone: Alone) -> AbstractContextManager[Stage]:
        """Everything a plan needs, set up, and taken away after the block."""

    def alone(self, folder: Path, *, ranks: int, dropout: float) -> Alone:
        """What the run does without any faults."""


class Miss(Exception):
    """A fault found nothing to break: the plan goes on without it."""


class GivenUp(Exception):
    """The run has ended without having finished, and for good; why."""
