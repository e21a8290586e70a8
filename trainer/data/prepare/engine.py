"""Where the tasks of a stage run: on this machine's cores, or on a Ray cluster.

A stage is a picklable function and a list of tasks, each of which writes its own files; results are small and come in
the order of the tasks. So what is written does not depend on the engine or on the number of workers.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from trainer.errors import UserError
from trainer.extras import needs

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks that are handed out before the first one's result is taken, for each worker: what they write waits on the disk.
AHEAD = 2


class Engine(Protocol):
    """Runs the tasks of stages."""

    @property
    def name(self) -> str:
        """For people."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results in the order of the tasks. An error of a task is raised here."""

    def close(self) -> None:
        """End the workers."""


class Processes:
    """Worker processes on this machine, started for the first stage that has more than one task."""

    def __init__(self, workers: int | None = None) -> None:
        """workers: null for one per core that this process may use."""
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None

    @property
    def name(self) -> str:
        return f"{self.workers} processes"

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        todo = list(tasks)
        if len(todo) <= 1 or self.workers == 1:
            yield from map(function, todo)
            return
        pool = self._pool = self._pool or ProcessPoolExecutor(
            self.workers, mp_context=get_context("forkserver"), initializer=_one_thread_each
        )
        waiting: deque[Future[Result]] = deque()
        try:
            for task in todo:
                waiting.append(pool.submit(function, task))
                if len(waiting) >= AHEAD * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process was killed, for want of memory perhaps: run again to go on where it stopped, with "
                "fewer --workers if memory is short"
            ) from error
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class RayData:
    """Ray Data on the cluster that RAY_ADDRESS names, or on this machine; all nodes must see the same folders."""

    name = "Ray Data"

    def __init__(self) -> None:
        """Raises UserError where Ray is not installed."""
        with needs("ray", "--engine ray"):
            import ray
        self._ours = not ray.is_initialized()
        if self._ours:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        import ray

        todo = [{"task": pickle.dumps(task)} for task in tasks]
        if not todo:
            return
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        data = ray.data.from_items(todo, override_num_blocks=len(todo))
        for row in data.map(_Call(function)).iter_rows():
            result = pickle.loads(row["result"])  # noqa: S301  # our own worker's
            if isinstance(result, Exception):
                raise result
            yield result

    def close(self) -> None:
        if self._ours:
            import ray

            ray.shutdown()


class _Call:
    """A stage's function on rows of Ray Data. Errors travel as results: Ray would wrap them and try again."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            result = self._function(pickle.loads(row["task"]))  # noqa: S301  # our own driver's
        except (UserError, OSError) as error:
            result = error
        return {"result": pickle.dumps(result)}


def _one_thread_each() -> None:
    # As many processes as cores, so libraries with threads of their own would only get in each other's way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["OMP_NUM_THREADS"] = "1"
