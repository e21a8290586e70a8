"""The device mesh of a run: which ranks share the shards of a parameter and which hold copies.

Called by the worker once per attempt, before the model is wrapped.
"""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from trainer.errors import UserError
from trainer.parallel.config import ParallelConfig


def make_mesh(config: ParallelConfig, *, world_size: int, local_world_size: int, device_type: str) -> DeviceMesh:
    """A mesh of all ranks: one dimension (`shard`), or two (`replicate`, `shard`) for `hybrid` and `none`.

    Raises UserError if the ranks cannot be divided into the groups that `parallel.hybrid_ranks` asks for.
    """
    shard_ranks = shard_group_size(config, world_size=world_size, local_world_size=local_world_size)
    if config.shard in ("hybrid", "none"):
        return init_device_mesh(
            device_type, (world_size // shard_ranks, shard_ranks), mesh_dim_names=("replicate", "shard")
        )
    return init_device_mesh(device_type, (world_size,), mesh_dim_names=("shard",))


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
