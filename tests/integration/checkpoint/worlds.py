"""A run that is stopped and resumed at other world sizes, one process per rank; started by test_worlds.py.

Each phase builds a real FSDP2 model and AdamW on gloo, loads what the phase before saved, takes a step and saves. What
the test asserts is written to a JSON file: digests of all tensors, whole, and the outcome of each save and load.

    python -m tests.integration.checkpoint.worlds STORE FOLDER 1,2,3,1
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import fsspec
import torch
import torch._dynamo  # optimizers import it at their first step: here once for all forks
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.integration.checkpoint.helpers import KEEP_ALL, MODEL_SHA256, make_snapshot
from tests.integration.limits import file_limit
from trainer.checkpoint.attempts import Attempt, AttemptClaim, claim_attempt
from trainer.checkpoint.load import find_checkpoint, load_checkpoint
from trainer.checkpoint.ranks import Ranks
from trainer.checkpoint.save import Saver
from trainer.checkpoint.staging import flatten
from trainer.checkpoint.store import Store, open_run


def main(store: str, folder: Path, worlds: list[int]) -> None:
    """Run the phases one after the other, each rank of each in a fork: importing torch takes longer than a phase."""
    fsspec.get_filesystem_class(store.partition("://")[0] if "://" in store else "file")  # imported once, not used
    for phase, world_size in enumerate(worlds):
        ranks = []
        for rank in range(world_size):
            child = os.fork()
            if child == 0:
                run_rank(store, folder, phase, rank, world_size)
            ranks.append(child)
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks]
        assert ended == [0] * world_size, f"phase {phase}: exit codes {ended}"


def run_rank(store: str, folder: Path, phase: int, rank: int, world_size: int) -> NoReturn:
    """One rank of one phase; ends its process."""
    try:
        rendezvous = f"file://{folder}/rendezvous-{phase}"
        limit = timedelta(seconds=60)
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world_size, timeout=limit)
        report = run_phase(open_run(store, "tiny"), phase)
        if rank == 0:
            (folder / f"phase-{phase}.json").write_text(json.dumps(report))
        dist.barrier()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    # No interpreter exit: FSDP2 on gloo may abort in it.
    os._exit(0)


def run_phase(run: Store, phase: int) -> dict[str, Any]:
    """Load, step, fail a save on the last rank, save, and say what happened."""
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=60))
    ranks = Ranks(group)
    model, optimizer = build(seed=phase)
    resolved = find_checkpoint(run) if ranks.rank == 0 else None
    attempt = claimed(run, ranks, resolved.checkpoint.base_in(run) if resolved else None)
    report: dict[str, Any] = {"world_size": ranks.world_size}
    if ranks.on_first(lambda: resolved is not None):
        tensors = state_of(model, optimizer)
        loaded = load_checkpoint(resolved, tensors, model_sha256=MODEL_SHA256, group=group)
        set_state_dict(model, optimizer, model_state_dict=tensors["model"], optim_state_dict=tensors["optimizer"])
        report["loaded"] = loaded.checkpoint.name
        report["rank_states"] = ranks.on_all(lambda: loaded.rank_state.decode() if loaded.rank_state else None)
        report["digests_loaded"] = digests(state_of(model, optimizer))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.125)
    optimizer.step()
    saver = Saver(attempt, group=group, streams=2, keep=KEEP_ALL)
    with file_limit(512 if ranks.rank == ranks.world_size - 1 and run.is_local else None):
        saver.save(snapshot(10 * phase + 5, ranks, model, optimizer))
        report["limited"] = [result.error for result in saver.wait()]
    saver.save(snapshot(10 * phase + 10, ranks, model, optimizer))
    # Training goes on while the save is in flight: what is saved must be the state of the call.
    saved = state_of(model, optimizer)
    report["digests_saved"] = digests(saved)
    optimizer.step()
    report["errors"] = ranks_all_errors(ranks, saver)
    return report


def ranks_all_errors(ranks: Ranks, saver: Saver) -> list[str | None]:
    """Errors of the last save on each rank. The saver's group is free again once that has ended."""
    results = saver.wait()
    return ranks.on_all(lambda: results[-1].error)


def build(seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Layers whose sizes no world size divides, a norm that stays in one piece, AdamW state after one step."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Embedding(31, 7), torch.nn.Linear(7, 5), torch.nn.LayerNorm(5))
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step()
    return model, optimizer


def claimed(run: Store, ranks: Ranks, base: str | None) -> Attempt:
    """Rank 0 claims, all ranks get the claim."""

    def claim() -> AttemptClaim:
        return claim_attempt(run, world_size=ranks.world_size, config_sha256="a" * 64, base_checkpoint=base).claim

    return Attempt(run, ranks.on_first(claim))


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {"model": model_state, "optimizer": optimizer_state}


def snapshot(step: int, ranks: Ranks, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    rank_state = f"rank {ranks.rank} of {ranks.world_size}".encode()
    return make_snapshot(step, state_of(model, optimizer), rank_state=rank_state)


def digests(state: dict[str, Any]) -> dict[str, str]:
    """sha256 of every tensor, whole."""
    found = {}
    for name, value in flatten(state).items():
        if isinstance(value, torch.Tensor):
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            found[name] = hashlib.sha256(whole.detach().numpy().tobytes()).hexdigest()
    return found


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [int(part) for part in sys.argv[3].split(",")])
