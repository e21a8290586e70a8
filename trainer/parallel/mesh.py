"""The device mesh of a run: which ranks share the shards of a parameter and which hold copies.

Called by the worker once per attempt, before the model is wrapped.
"""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from trainer.parallel.config import ParallelConfig
from trainer.parallel.groups import shard_group_size


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
