"""What an attempt goes on from: the checkpoint that `resume` names, and whether the run may go on from it.

Called by set-up; preflight makes the same checks without loading anything.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch

from trainer.checkpoint.layout import Checkpoint
from trainer.checkpoint.load import Loaded, find_checkpoint, load_checkpoint
from trainer.checkpoint.ranks import Ranks
from trainer.checkpoint.references import resume_reference
from trainer.checkpoint.store import Store
from trainer.config import RunConfig
from trainer.elastic.workers import REPORT_FOLDER_VARIABLE
from trainer.errors import UserError
from trainer.parallel.world import World
from trainer.train.loop import Identity
from trainer.train.state import Progress, data_order, restore_random_state, restore_tensors, tensors_of
from trainer.train.step import StepContext


def restore(
    config: RunConfig, world: World, run_store: Store, context: StepContext, identity: Identity
) -> Loaded | None:
    """Load the checkpoint to go on from into the model; None to start from step 0."""
    ranks = Ranks(world.save_group)
    reference = ranks.on_first(lambda: resume_reference(run_store, config.resume, identity.hashes.config_sha256))
    if reference == "none":
        return None
    resolved = ranks.on_first(lambda: find_checkpoint(run_store, reference))
    if resolved is None:
        return None
    tensors = tensors_of(context.model, context.optimizers)
    loaded = load_checkpoint(
        resolved,
        tensors,
        model_sha256=identity.hashes.model_sha256,
        group=world.save_group,
        streams=config.checkpoint.streams,
        local=config.checkpoint.local,
        # A worker that is killed while it loads leaves what it has fetched to its launcher.
        scratch=os.environ.get(REPORT_FOLDER_VARIABLE),
    )
    check_same_data(loaded.checkpoint, identity)
    check_order_unchanged(config, loaded.checkpoint, loaded.progress)
    restore_tensors(context.model, context.optimizers, tensors)
    return loaded


def check_same_data(checkpoint: Checkpoint, identity: Identity) -> None:
    """UserError if a checkpoint was trained on other data: its step number would mean another place."""
    if checkpoint.committed.dataset_sha256 != identity.hashes.dataset_sha256:
        raise UserError(
            f"{checkpoint.url} was trained on other data than data.train names (or with other weights)",
            expected="the same prepared sets: the position in the data is part of a checkpoint",
            fix="restore data.train, or start a run of another name",
        )


def check_order_unchanged(config: RunConfig, checkpoint: Checkpoint, progress: Mapping[str, Any]) -> None:
    """The step number is the position in the data, which holds only for the same batches in the same order.

    progress: the checkpoint's own; UserError names what differs.
    """
    before = progress.get("data_order", {})
    now = data_order(config)
    # One of them may have been made by a program that knows a key more than the other's.
    changed = [
        f"{key}: {before.get(key, 'not there')} -> {now.get(key, 'not there')}"
        for key in dict.fromkeys([*now, *before])
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise UserError(
            f"{checkpoint.url} cannot go on with {', '.join(changed)}",
            expected="the values of the checkpoint: they decide which sequences a step reads",
            fix="restore them, go on with the program that wrote the checkpoint, or start a run of another name",
        )


def restore_progress(config: RunConfig, world: World, context: StepContext, loaded: Loaded | None) -> Progress:
    """How far the run has come; the loss scale and this rank's random numbers as they were there."""
    if loaded is None:
        return Progress()
    progress = Progress.from_json(loaded.progress)
    _restore_scaler(context, progress)
    _restore_random(config, world, loaded, progress.step)
    return progress


def _restore_scaler(context: StepContext, progress: Progress) -> None:
    if context.scaler is not None and progress.loss_scale is not None:
        context.scaler.scale = progress.loss_scale
        context.scaler.good_steps = progress.loss_scale_good_steps


def _restore_random(config: RunConfig, world: World, loaded: Loaded, step: int) -> None:
    """This rank's own state at the same world size; else a seed that no other rank and step has."""
    if loaded.rank_state is not None:
        restore_random_state(loaded.rank_state, world.device)
    else:
        torch.manual_seed(rank_seed(config.seed, world.rank, step))


def rank_seed(seed: int, rank: int, step: int) -> int:
    """A seed that no other rank and step has."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{rank}/{step}".encode()).digest()[:8], "big") >> 1
