"""One rank of 8, 128 and 1,024: set-up time, memory, and its share of the largest preset.

    python -m benchmarks.rank_setup [--worlds N ...] [--json]

No cluster of that size is at hand: rank 0 stands in torch's fake process group of so many ranks, in which collectives
do nothing. All else is what `trainer.train.build` does and is real: the decoder of the preset `neox-1.4b` on the meta
device, the mesh, FSDP2, storage and initial values of this rank's shards, AdamW and, after one update, its moments.
Without compilation, which has nothing to do with the number of ranks, and on the CPU. Each world has a process of its
own. The bar is what rank 0, whose shards are the largest, may hold more than an equal share.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from benchmarks.common import hardware, in_own_process, memory_megabytes
from benchmarks.worlds import GPUS_OF_A_NODE, PRESET, enter_fake_group, options

BAR_RATIO = 1.05


def main() -> None:
    asked = options(__doc__)
    results = [in_own_process(set_up, world) for world in asked.worlds]
    report = {"bar_ratio": BAR_RATIO, "preset": PRESET, "hardware": hardware(), "results": results}
    if asked.json:
        print(json.dumps(report))
        return
    for result in results:
        print(
            f"{result['world_size']:5} ranks: set up in {result['seconds']:.1f} s, {result['initial_seconds']:.1f} s "
            f"of it initial values; update {result['update_seconds']:.2f} s; peak {result['peak_megabytes']:.0f} MB "
            f"beyond the imports; parameters {result['parameter_bytes'] / 1e6:.2f} MB, "
            f"{result['parameter_ratio']:.4f} of an equal share; optimizer "
            f"{result['optimizer_bytes'] / 1e6:.2f} MB, {result['optimizer_ratio']:.4f}"
        )


def set_up(world_size: int) -> dict[str, Any]:
    """Figures of rank 0 in a world of so many; the modules are imported before anything is counted."""
    import torch
    import torch.distributed as dist

    from trainer.config_file import load_run_config
    from trainer.model.init import initialise
    from trainer.parallel.world import World
    from trainer.train.build import build_model
    from trainer.train.datasets import Data
    from trainer.train.optimizer import build_optimizers
    from trainer.train.setup import check_ranks

    # A sequence for each rank, of which the preset's batch has fewer.
    overrides = ["parallel.compile=false", "batch.sequences=1024", "batch.micro_sequences=1"]
    config = load_run_config(PRESET, overrides)
    enter_fake_group(0, world_size)
    world = World(
        rank=0,
        world_size=world_size,
        local_rank=0,
        local_world_size=GPUS_OF_A_NODE,
        device=torch.device("cpu"),
        save_group=dist.new_group(backend="fake"),
    )
    before = memory_megabytes(os.getpid(), "VmRSS")
    started = time.perf_counter()
    check_ranks(config, world_size)
    model = build_model(config, world, Data(train=[], validation=[], samples=0, document_end_id=None))
    initial_started = time.perf_counter()
    initialise(model, config.seed)
    initial_seconds = time.perf_counter() - initial_started
    optimizers = build_optimizers(model, config.optimizer)
    seconds = time.perf_counter() - started
    peak = memory_megabytes(os.getpid(), "VmHWM") - before
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    started = time.perf_counter()
    optimizers.step()
    update_seconds = time.perf_counter() - started
    state = [
        moment
        for optimizer in optimizers.optimizers
        for moments in optimizer.state.values()
        for moment in moments.values()
    ]
    whole = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    parameter_bytes, optimizer_bytes = local_bytes(list(model.parameters())), local_bytes(state)
    dist.destroy_process_group()
    return {
        "world_size": world_size,
        "seconds": seconds,
        "initial_seconds": initial_seconds,
        "update_seconds": update_seconds,
        "peak_megabytes": peak,
        "parameter_bytes": parameter_bytes,
        "parameter_ratio": parameter_bytes / (whole / world_size),
        "optimizer_bytes": optimizer_bytes,
        "optimizer_ratio": optimizer_bytes / (2 * whole / world_size),
    }


def local_bytes(tensors: list[Any]) -> int:
    """Bytes of this rank's parts."""
    from trainer.checkpoint.staging import local_part

    return sum(part.numel() * part.element_size() for part in map(local_part, tensors))


if __name__ == "__main__":
    main()
