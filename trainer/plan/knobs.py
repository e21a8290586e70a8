"""What can be turned so that a run fits or goes faster: one change of the run file or of the machines each.

Pure; called by `trainer.plan.advice` for sentences and by `trainer.plan.search` for candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trainer.config import RunConfig
from trainer.errors import UserError
from trainer.plan.hardware import Cluster
from trainer.plan.memory import Memory, plan_memory

SHARDINGS = ("none", "grads_and_optimizer", "full")
"""By growing communication and falling memory; hybrid is for several machines with slow links."""
RECOMPUTES = ("none", "selective", "full")


@dataclass(frozen=True)
class Knob:
    """One change and the memory per GPU after it."""

    change: str
    """As a person would say it, or as `--set` takes it."""
    memory: Memory


def changed(config: RunConfig, *, micro_sequences: int | None = None, **parallel: Any) -> RunConfig:
    """The run with another micro-batch or other settings of `parallel`, validated again."""
    values = config.model_dump(mode="python")
    if micro_sequences is not None:
        values["batch"]["micro_sequences"] = micro_sequences
    if parallel.get("shard", "hybrid") != "hybrid":
        values["parallel"]["hybrid_ranks"] = None
    values["parallel"].update(parallel)
    return RunConfig.model_validate(values)


def memory_on(config: RunConfig, cluster: Cluster) -> Memory | None:
    """Memory per GPU of these machines; None where the run cannot be divided over them."""
    if cluster.gpus > config.batch.sequences:
        return None
    try:
        return plan_memory(config, world_size=cluster.gpus, local_world_size=cluster.gpus_per_machine)
    except UserError:
        return None


def micro_batch_sizes(config: RunConfig, gpus: int) -> list[int]:
    """Sizes worth trying, largest first: powers of two up to one rank's share of the batch."""
    share = -(-config.batch.sequences // gpus)
    return [2**power for power in reversed(range(share.bit_length())) if 2**power <= share]


def largest_micro_batch(config: RunConfig, cluster: Cluster) -> int | None:
    """The largest of them that fits; None if not even one sequence does."""
    for size in micro_batch_sizes(config, cluster.gpus):
        memory = memory_on(changed(config, micro_sequences=size), cluster)
        if memory is not None and memory.total <= cluster.accelerator.memory_bytes:
            return size
    return None


def memory_knobs(config: RunConfig, cluster: Cluster) -> list[Knob]:
    """Single changes that lower the memory per GPU, the one that helps most first."""
    now = memory_on(config, cluster)
    assert now is not None
    knobs = [Knob(change, memory) for change, memory in _tries(config, cluster) if memory is not None]
    return sorted((knob for knob in knobs if knob.memory.total < now.total), key=lambda knob: knob.memory.total)


def _tries(config: RunConfig, cluster: Cluster) -> Iterator[tuple[str, Memory | None]]:
    micro = config.batch.micro_sequences
    for size in sorted({max(1, micro // 2), 1} - {micro}, reverse=True):
        yield f"batch.micro_sequences={size}", memory_on(changed(config, micro_sequences=size), cluster)
    for recompute in RECOMPUTES[RECOMPUTES.index(config.parallel.recompute) + 1 :]:
        yield f"parallel.recompute={recompute}", memory_on(changed(config, recompute=recompute), cluster)
    if config.parallel.shard != "full":
        yield "parallel.shard=full", memory_on(changed(config, shard="full"), cluster)
    if not config.parallel.offload:
        yield "parallel.offload=true", memory_on(changed(config, offload=True), cluster)
    more = 2 * cluster.gpus
    yield f"{more} GPUs", memory_on(config, cluster.of(more))
