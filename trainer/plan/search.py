"""The fastest or the cheapest way to do a run: GPUs, sharding, recomputation and micro-batch that fit.

The model, the data and the global batch stay as they are, so every candidate computes the same losses. Pure; called by
the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from trainer.config import RunConfig
from trainer.errors import UserError
from trainer.plan.hardware import Cluster
from trainer.plan.knobs import RECOMPUTES, SHARDINGS, changed, memory_on, micro_batch_sizes
from trainer.plan.plan import Assumptions, Plan, make_plan

Goal = Literal["fastest", "cheapest"]
_SHOWN = 5


@dataclass(frozen=True)
class Candidate:
    """A way that fits."""

    plan: Plan

    @property
    def changes(self) -> tuple[str, ...]:
        """What `--set` has to say for it."""
        config = self.plan.config
        return (
            f"batch.micro_sequences={config.batch.micro_sequences}",
            f"parallel.shard={config.parallel.shard}",
            f"parallel.recompute={config.parallel.recompute}",
        )

    @property
    def price_per_token(self) -> float | None:
        """Comparable where the length of the run is unknown."""
        price = self.plan.cluster.price
        if price is None or not self.plan.resilience.goodput_ratio:
            return None
        useful = self.plan.typical.tokens_per_second * self.plan.resilience.goodput_ratio
        return price * self.plan.cluster.gpus / 3600 / useful


def search(config: RunConfig, clusters: Iterable[Cluster], assumptions: Assumptions, goal: Goal) -> list[Candidate]:
    """The best few candidates, best first, one per number and kind of GPUs.

    Raises UserError where nothing fits, or where the cheapest is asked for and nobody knows a price.
    """
    best = [found for cluster in clusters if (found := _best_on(config, cluster, assumptions)) is not None]
    if not best:
        raise UserError(
            "no configuration of the run fits on the GPUs that were searched",
            expected="GPUs that hold at least one sequence with full sharding and recomputation",
            fix="allow more of them (--gpus) or others (--gpu), or shorten sequence_length",
        )
    if goal == "fastest":
        return sorted(best, key=lambda found: -_useful_speed(found.plan))[:_SHOWN]
    priced = [found for found in best if found.price_per_token is not None]
    if not priced:
        raise UserError(
            "--search cheapest: no price is known for the GPUs that were searched",
            expected="a price per GPU and hour",
            fix="give --price",
        )
    return sorted(priced, key=lambda found: found.price_per_token or 0.0)[:_SHOWN]


def cluster_sizes(cluster: Cluster) -> list[Cluster]:
    """Powers of two up to the GPUs at hand, and all of them."""
    counts = sorted(
        {2**power for power in range(cluster.gpus.bit_length()) if 2**power <= cluster.gpus} | {cluster.gpus}
    )
    return [cluster.of(gpus) for gpus in counts if gpus % min(cluster.gpus_per_machine, gpus) == 0]


def _best_on(config: RunConfig, cluster: Cluster, assumptions: Assumptions) -> Candidate | None:
    room = cluster.accelerator.memory_bytes
    fitting = []
    for candidate in _configurations(config, cluster):
        memory = memory_on(candidate, cluster)
        if memory is not None and memory.total <= room:
            fitting.append(make_plan(candidate, cluster, assumptions))
    if not fitting:
        return None
    return Candidate(max(fitting, key=_useful_speed))


def _configurations(config: RunConfig, cluster: Cluster) -> Iterator[RunConfig]:
    for shard in SHARDINGS:
        for recompute in RECOMPUTES:
            for size in micro_batch_sizes(config, cluster.gpus):
                yield changed(config, micro_sequences=size, shard=shard, recompute=recompute, offload=False)


def _useful_speed(plan: Plan) -> float:
    return plan.typical.tokens_per_second * plan.resilience.goodput_ratio
