"""Agreement between the ranks of a save or a load, robust against an error on any one of them.

A collective that one rank skips because of an exception hangs all others, so both helpers carry the exception to every
rank and raise it there. Only exceptions that survive pickling travel as they are; storage clients' own do not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch.distributed as dist

from trainer.checkpoint.layout import CorruptCheckpoint
from trainer.checkpoint.store import AlreadyExists
from trainer.errors import Fenced, UserError
from trainer.storage_errors import one_line

T = TypeVar("T")


class TransferFailed(Exception):
    """Files could not be written or read; the text says which rank and why."""


@dataclass(frozen=True)
class Ranks:
    """The ranks of a gloo group; without a group, this process alone."""

    group: dist.ProcessGroup | None

    @property
    def rank(self) -> int:
        return 0 if self.group is None else dist.get_rank(self.group)

    @property
    def world_size(self) -> int:
        return 1 if self.group is None else dist.get_world_size(self.group)

    def on_first(self, function: Callable[[], T]) -> T:
        """Run on rank 0 alone; every rank gets its result, or its exception."""
        outcome = _attempt(function, 0) if self.rank == 0 else None
        if self.group is not None:
            box: list[Any] = [outcome]
            dist.broadcast_object_list(box, src=dist.get_global_rank(self.group, 0), group=self.group)
            outcome = box[0]
        assert outcome is not None
        return cast(T, outcome.unwrap())

    def on_all(self, function: Callable[[], T]) -> list[T]:
        """Run on every rank; all get all results, or the exception of the lowest rank that failed."""
        outcomes: list[Any] = [_attempt(function, self.rank)]
        if self.group is not None:
            outcomes = [outcomes[0]] * self.world_size
            dist.all_gather_object(outcomes, outcomes[self.rank], group=self.group)
        return [outcome.unwrap() for outcome in outcomes]


def portable(error: BaseException, rank: int) -> BaseException:
    """The exception itself if it pickles and means something to a caller, else its text."""
    if isinstance(error, UserError | Fenced | CorruptCheckpoint | AlreadyExists | TransferFailed):
        return error
    return TransferFailed(f"rank {rank}: {one_line(error)}")


def quiet_single_process() -> None:
    """torch warns at every save and load without a process group; a single process is meant where this is called."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


@dataclass(frozen=True)
class _Outcome:
    value: Any
    error: BaseException | None

    def unwrap(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def _attempt(function: Callable[[], Any], rank: int) -> _Outcome:
    try:
        return _Outcome(function(), None)
    except Exception as error:
        return _Outcome(None, portable(error, rank))
