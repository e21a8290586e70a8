"""A rank as a tutorial writes it: the plain GPT under DistributedDataParallel, saved by DCP every so many steps.

    torchrun ... -m benchmarks.compare.plain_worker FOLDER

The peers' side of the comparison of recovery: torchrun starts it as it is, recovery_ray.py calls `train` in Ray Train's
workers. It goes on from the newest save in FOLDER/checkpoints, and adds a line of JSON per step to
FOLDER/steps-RANK.jsonl.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from benchmarks.common import write_random_tokens
from benchmarks.plain_gpt import PlainGPT, RandomWindows, adamw

VOCAB_SIZE, LENGTH, LAYERS, WIDTH, HEADS = 2048, 128, 4, 128, 4
SEQUENCES = 12
SAVE_EVERY_STEPS = 20
MARKER = "complete"


def main() -> None:
    dist.init_process_group("gloo")
    train(Path(sys.argv[1]))


def prepare(folder: Path) -> None:
    """Write the tokens that workers read."""
    write_random_tokens(folder / "tokens.bin", vocab_size=VOCAB_SIZE, tokens=400_000)


def train(folder: Path) -> None:
    """Train until somebody ends it; the process group is up."""
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(1)
    plain = PlainGPT(vocab_size=VOCAB_SIZE, context=LENGTH, layers=LAYERS, width=WIDTH, heads=HEADS)
    optimizer = adamw(plain, 1e-3)
    model = nn.parallel.DistributedDataParallel(plain)
    step = restore(folder, model, optimizer)
    # Data goes on elsewhere after a restart; a tutorial does not care.
    seed = int(np.random.SeedSequence([rank, step]).generate_state(1)[0])
    batches = RandomWindows(folder / "tokens.bin", sequences=SEQUENCES // world, length=LENGTH, seed=seed)
    with (folder / f"steps-{rank}.jsonl").open("a", buffering=1) as lines:
        while True:
            inputs_BT, targets_BT = batches.next()
            model(inputs_BT, targets_BT).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            lines.write(json.dumps({"step": step, "time": time.time(), "pid": os.getpid()}) + "\n")
            if step % SAVE_EVERY_STEPS == 0:
                save(folder, model, optimizer, step)


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Save on all ranks; complete once the marker is there."""
    target = folder / "checkpoints" / f"{step:08d}"
    dcp_save(state_of(model, optimizer), checkpoint_id=target)
    if dist.get_rank() == 0:
        (target / MARKER).touch()


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the newest complete save, if there is one; its step."""
    complete = sorted(path.parent for path in folder.glob(f"checkpoints/*/{MARKER}"))
    if not complete:
        return 0
    state = state_of(model, optimizer)
    dcp_load(state, checkpoint_id=complete[-1])
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return int(complete[-1].name)


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a save holds."""
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {"model": model_state, "optimizer": optimizer_state}


if __name__ == "__main__":
    main()
