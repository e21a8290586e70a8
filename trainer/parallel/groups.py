"""How ranks are divided into sharding groups; read by the mesh and, without torch, by the planner."""

from __future__ import annotations

from trainer.errors import UserError
from trainer.parallel.config import ParallelConfig


def shard_group_size(config: ParallelConfig, *, world_size: int, local_world_size: int) -> int:
    """Ranks that share one copy of the parameters."""
    if config.shard == "none":
        return 1
    if config.shard != "hybrid":
        return world_size
    size = config.hybrid_ranks or local_world_size
    if world_size % size:
        raise UserError(
            f"parallel.hybrid_ranks: {size} does not divide the {world_size} ranks of this attempt",
            expected="sharding groups of equal size",
            fix="choose a divisor of every world size the run may have, or parallel.shard: full",
        )
    return size
