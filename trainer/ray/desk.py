"""Where workers and the driver leave word for each other: an actor on the driver's node.

Rank 0 tells what changed a few times a second and takes the wish to stop home with it; the driver collects. Nothing is
decided here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainer.ray.rounds import Group


@dataclass(frozen=True)
class News:
    """What rank 0 of a group tells."""

    group: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Mail:
    """What the driver collects."""

    unread: list[Group | News]
    group: str
    """The newest group; empty before the first."""
    silent_seconds: float
    """Since rank 0 of it gave any sign of life, news or not."""


class Desk:
    """The actor."""

    def __init__(self) -> None:
        self._unread: list[Group | News] = []
        self._stopping: set[str] = set()
        self._group = ""
        self._heard_at = time.monotonic()

    def begin(self, group: Group) -> None:
        """A group has been placed, and is about to train."""
        self._unread.append(group)
        self._group, self._heard_at = group.id, time.monotonic()

    def tell(self, group: str, fields: dict[str, Any]) -> bool:
        """What changed for a group, which may be nothing; whether it is to save and stop."""
        if group == self._group:
            self._heard_at = time.monotonic()
        if fields:
            self._unread.append(News(group, fields))
        return group in self._stopping

    def stop(self, group: str) -> None:
        """Have a group save and stop."""
        self._stopping.add(group)

    def read(self) -> Mail:
        """What came in since the last call, in order, and how long the newest group has been silent."""
        unread, self._unread = self._unread, []
        return Mail(unread, self._group, time.monotonic() - self._heard_at)


def open_desk() -> ActorHandle[Desk]:
    """Start the actor on this node; it ends with the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    opened: ActorHandle[Desk] = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()  # type: ignore[assignment]  # the stub's union is of Ray's local mode
    return opened
