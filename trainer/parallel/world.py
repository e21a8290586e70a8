"""Who this process is among the ranks of an attempt: device, process group, and an orderly way in and out.

Called by the worker. The environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) is set by
`gpt-run train`, torchrun or the training operator; without it the process is a world of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

# A save to a slow store may take long; its group must not give up before the store's own time-outs do.
_SAVE_TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """This process's place in the attempt."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    device: torch.device
    save_group: dist.ProcessGroup
    """A gloo group for checkpoints alone: sharing one with training can deadlock."""


def join_world(*, timeout_seconds: float) -> World:
    """Join the process group; blocks until all ranks are there. timeout_seconds: of a collective that hangs."""
    environment = os.environ
    rank = int(environment.get("RANK", "0"))
    world_size = int(environment.get("WORLD_SIZE", "1"))
    local_rank = int(environment.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    backend = "gloo"
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    if "MASTER_ADDR" in environment:
        device_id = device if device.type == "cuda" else None
        dist.init_process_group(backend, device_id=device_id, timeout=timedelta(seconds=timeout_seconds))
    else:
        store = dist.TCPStore(  # type: ignore[attr-defined]  # exported where torch was built with it
            "127.0.0.1", 0, is_master=True, wait_for_workers=False
        )
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    save_group = dist.new_group(backend="gloo", timeout=_SAVE_TIMEOUT)
    # Rank 0 may hold the store: it must not leave, for wrong input say, while others still connect through it.
    dist.barrier(save_group)
    return World(
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        local_world_size=int(environment.get("LOCAL_WORLD_SIZE", "1")),
        device=device,
        save_group=save_group,
    )


def leave_world() -> None:
    """Leave the process group. Everything that holds DTensors must be gone and collected before.

    Gloo's threads abort a process that ends while a peer is still using them: hence the barrier.
    """
    dist.barrier()
    dist.destroy_process_group()
