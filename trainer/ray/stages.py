"""`gpt-run data prepare --engine ray`: the stages of preparation on Ray Data.

The same tasks as on one machine, each of which writes files of its own, so all nodes must see the same folders; results
come in the order of the tasks.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

from trainer.errors import UserError
from trainer.ray.cluster import connected

Task = TypeVar("Task")
Result = TypeVar("Result")


class RayData:
    """An engine of preparation (`trainer.data.prepare.engine`): the cluster of RAY_ADDRESS, or one started here."""

    name = "Ray Data"

    def __init__(self) -> None:
        """Raises UserError where Ray is not installed or the cluster does not answer."""
        self._connection = ExitStack()
        self._connection.enter_context(connected(os.cpu_count() or 1))

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results in the order of the tasks. An error of a task is raised here."""
        import ray

        todo = [{"task": pickle.dumps(task)} for task in tasks]
        if not todo:
            return
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        data = ray.data.from_items(todo, override_num_blocks=len(todo))
        for row in data.map(_Call(function)).iter_rows():
            result = pickle.loads(row["result"])  # noqa: S301  # our own worker's
            if isinstance(result, Exception):
                raise result
            yield result

    def close(self) -> None:
        """Leave the cluster, or end the one that was started here."""
        self._connection.close()


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
