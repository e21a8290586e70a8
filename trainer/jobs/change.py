"""What `gpt-run job scale`, `suspend` and `resume` do, so that it stays done.

Where a TrainingRun has the say its wish is changed first, then the job itself, in case its operator is away.
"""

from __future__ import annotations

from collections.abc import Callable

from trainer.jobs.backends import Backend
from trainer.jobs.cluster import Cluster
from trainer.jobs.keeper import ask, keeper_of
from trainer.jobs.state import JobState, check_replicas, refuse_over


def scale(cluster: Cluster, backend: Backend, state: JobState, replicas: int, say: Callable[[str], None]) -> None:
    """Change the number of worker pods. UserError for one that is out of bounds, of the job's or the TrainingRun's."""
    keeper = keeper_of(cluster, state, say)
    check_replicas(state if keeper is None else keeper.bounding(state), replicas)
    if keeper is not None and (keeper.sizes or not backend.scalable):
        ask(cluster, keeper, say, replicas=replicas)
    if keeper is None or backend.scalable:
        backend.scale(state, replicas)


def suspend(backend: Backend, state: JobState) -> None:
    """Suspend by a person's word, which the operator lets be: also what it has suspended itself, and would resume."""
    refuse_over(state)
    if not state.suspend or state.marked:
        backend.set_suspend(state.name, True)


def resume(cluster: Cluster, backend: Backend, state: JobState, say: Callable[[str], None]) -> None:
    """Let it go on, whoever has suspended it."""
    refuse_over(state)
    keeper = keeper_of(cluster, state, say)
    if keeper is not None and keeper.suspend:
        ask(cluster, keeper, say, suspend=False)
    if state.suspend or state.marked:
        backend.set_suspend(state.name, False)
