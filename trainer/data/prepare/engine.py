"""Where the tasks of a stage run: on this machine's cores, or where another engine takes them (`trainer.ray.stages`).

A stage is a picklable function and a list of tasks, each of which writes its own files; results are small and come in
the order of the tasks. So what is written does not depend on the engine or on the number of workers.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from typing import Protocol, TypeVar

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
        # Taken as they are handed out: of a large corpus, tasks say for each document what becomes of it.
        source = iter(tasks)
        first = list(islice(source, 2))
        todo = chain(first, source)
        if len(first) <= 1 or self.workers == 1:
            yield from map(function, todo)
            return
        pool = self._pool = self._pool or self._start(function.__module__)
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

    def _start(self, module: str) -> ProcessPoolExecutor:
        context = get_context("forkserver")
        # Imported once, by the process that workers are forked from: costs time and memory once, not per worker.
        context.set_forkserver_preload(["__main__", module])
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_begin)


def _begin() -> None:
    """The begin of a worker's life."""
    # A driver that was killed tells nobody, and its workers hold each other's queue open: they would wait for ever.
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    # As many processes as cores, so libraries with threads of their own would only get in each other's way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"


def _end_with_the_driver() -> None:
    driver = parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)
