"""The TrainingRun that looks after a job, where there is one: our operator makes the job what that asks for.

So `gpt-run job scale` and `resume` change its wish first: what they did to the job alone would be undone at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from trainer.errors import UserError
from trainer.jobs.cluster import FIELD_MANAGER, TIMEOUTS, Cluster
from trainer.jobs.state import JobState

GROUP, VERSION, PLURAL = "gptrun.io", "v1alpha1", "trainingruns"


@dataclass(frozen=True)
class Keeper:
    """What a TrainingRun asks for."""

    name: str
    min_replicas: int
    max_replicas: int
    replicas: int | None
    """Worker pods; None: the job's own number, or as many as there is room for."""
    follows_room: bool
    suspend: bool

    @property
    def sizes(self) -> bool:
        """Whether another number of the job's alone would not stay."""
        return self.replicas is not None or self.follows_room

    def bounding(self, state: JobState) -> JobState:
        """The job with the bounds of both."""
        highest = self.max_replicas if state.max_replicas is None else min(state.max_replicas, self.max_replicas)
        return replace(state, min_replicas=max(state.min_replicas or 1, self.min_replicas), max_replicas=highest)


def keeper_of(cluster: Cluster, state: JobState, say: Callable[[str], None]) -> Keeper | None:
    """The oldest TrainingRun that names the job: it has the say. Who may not look is told so, and goes on without."""
    try:
        found = cluster.find(
            "looking for TrainingRuns",
            client.CustomObjectsApi(cluster.api).list_namespaced_custom_object,
            *(GROUP, VERSION, cluster.namespace, PLURAL),
            _request_timeout=TIMEOUTS,
        )
    except UserError as error:
        if not isinstance(error.__cause__, ApiException) or error.__cause__.status != 403:
            raise
        say(f"a TrainingRun of {state.name} would have the last word; whether there is one is not known: {error.found}")
        return None
    mine = [one for one in (found or {}).get("items", []) if _keeps(one, state)]
    first = min(mine, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["uid"]), default=None)
    return None if first is None else _keeper(first["metadata"]["name"], first["spec"])


def ask(cluster: Cluster, keeper: Keeper, say: Callable[[str], None], **wish: Any) -> None:
    """Change the TrainingRun's spec."""
    cluster.call(
        f"changing TrainingRun {keeper.name}",
        client.CustomObjectsApi(cluster.api).patch_namespaced_custom_object,
        *(GROUP, VERSION, cluster.namespace, PLURAL, keeper.name),
        {"spec": wish},
        field_manager=FIELD_MANAGER,
        _request_timeout=TIMEOUTS,
    )
    for name, value in wish.items():
        say(f"TrainingRun {keeper.name}: spec.{name} is {str(value).lower()} now")


def _keeps(found: dict[str, Any], state: JobState) -> bool:
    ref = found["spec"]["jobRef"]
    return (ref["kind"], ref["name"]) == (state.kind, state.name) and "deletionTimestamp" not in found["metadata"]


def _keeper(name: str, spec: dict[str, Any]) -> Keeper:
    elastic = spec["elastic"]
    return Keeper(
        name=name,
        min_replicas=elastic.get("min", 1),
        max_replicas=elastic["max"],
        replicas=spec.get("replicas"),
        follows_room=bool((elastic.get("capacity") or {}).get("enabled")),
        suspend=bool(spec.get("suspend")),
    )
