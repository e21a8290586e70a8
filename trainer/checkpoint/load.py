"""Loads a checkpoint into the tensors of a running model, verified, with fall-back to older ones.

The train loop calls `load_checkpoint` on every rank after the model is built; a single process that wants nothing but
the weights uses `trainer.checkpoint.tensors`. Every rank comes to the same decision: what rank 0 chose, and an error on
any rank is an error on all.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

from trainer.checkpoint import layout
from trainer.checkpoint.layout import Checkpoint, Committed, CorruptCheckpoint
from trainer.checkpoint.local import LocalCopies
from trainer.checkpoint.ranks import Ranks, TransferFailed, quiet_single_process
from trainer.checkpoint.reader import CheckpointReader, VerifiedFiles
from trainer.checkpoint.references import Resolved, resolve
from trainer.checkpoint.staging import flatten, flatten_below, put_back
from trainer.checkpoint.store import Store
from trainer.checkpoint.unpickling import PlainValuesPlanner
from trainer.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """What a load gives back beside the tensors it filled."""

    checkpoint: Checkpoint
    progress: dict[str, Any]
    rank_state: bytes | None
    """The state this rank saved; None if the world had another size then."""
    skipped: tuple[str, ...] = ()
    """Newer checkpoints that could not be used, each with the file and the reason."""

    @property
    def committed(self) -> Committed:
        return self.checkpoint.committed


def find_checkpoint(run: Store, reference: str = "latest") -> Resolved | None:
    """The checkpoint that `reference` means, whose files have the sizes of its marker, with older ones to fall back to.

    None if the run has no checkpoint and `latest` was asked for: only then is a start from scratch right. Nothing but
    markers is read: hashes are for `load_checkpoint`, which falls back where they tell of damage. Called on rank 0
    alone. UserError if there are checkpoints and none is whole, or the reference names none.
    """
    resolved = resolve(run, reference)
    if resolved is None:
        return None
    skipped = list(resolved.skipped)
    for number, checkpoint in enumerate(resolved.candidates):
        try:
            check_sizes(checkpoint)
        except CorruptCheckpoint as error:
            _warn_skipped(error)
            skipped.append(str(error))
            continue
        return replace(resolved, candidates=resolved.candidates[number:], skipped=tuple(skipped))
    raise none_is_sound(run, skipped)


def load_checkpoint(
    resolved: Resolved | None,
    tensors: dict[str, Any],
    *,
    model_sha256: str,
    group: dist.ProcessGroup | None = None,
    streams: int = 4,
    local: str | Path | None = None,
    scratch: str | None = None,
) -> Loaded:
    """Fill `tensors` (nested state dict) in place from the first sound candidate. Collective.

    resolved: what `find_checkpoint` gave on rank 0; not looked at on the others.
    scratch: a folder that somebody else tidies, for what is fetched, should this process be killed meanwhile.
    Where a candidate is deleted before it was read, the reference is looked up again: what took its place is newer than
    the other candidates.
    UserError if the checkpoint is of another model or no candidate is sound; TransferFailed if the store cannot be
    read.
    """
    ranks = Ranks(group)
    if group is None:
        quiet_single_process()
    agreed = ranks.on_first(lambda: resolved)
    assert agreed is not None, "rank 0 has nothing to load"
    skipped = list(agreed.skipped)
    candidates = deque(agreed.candidates)
    tried: set[str] = set()
    looks_left = layout.LOOKS - 1
    while candidates:
        checkpoint = candidates.popleft()
        tried.add(checkpoint.url)
        require_model(checkpoint, model_sha256)
        try:
            ranks.on_first(lambda checkpoint=checkpoint: check_sizes(checkpoint))  # type: ignore[misc]  # bound now
            with local_files(checkpoint, local, scratch) as files:
                progress, rank_state = _load_one(files, tensors, ranks, streams)
        except CorruptCheckpoint as error:
            skipped.append(str(error))
            if looks_left and ranks.on_first(checkpoint.is_gone):
                logger.warning("%s was deleted while it was read: looking for what took its place", checkpoint.url)
                looks_left -= 1
                again = ranks.on_first(lambda: find_checkpoint(agreed.run, agreed.reference))
                candidates = deque(found for found in (again.candidates if again else ()) if found.url not in tried)
            else:
                _warn_skipped(error)
            continue
        return Loaded(checkpoint, progress, rank_state, tuple(skipped))
    raise none_is_sound(agreed.run, skipped)


def read_progress(resolved: Resolved) -> tuple[Checkpoint, dict[str, Any]]:
    """The first candidate whose plan of tensors can be read, and the state that is the same on all its ranks.

    What a load would begin with, in a single process and without the tensors. UserError if no candidate is sound.
    """
    skipped = list(resolved.skipped)
    for checkpoint in resolved.candidates:
        try:
            check_sizes(checkpoint)
            with local_files(checkpoint) as files:
                CheckpointReader(files, streams=1).read_metadata()
                return checkpoint, json.loads(files.read(layout.PROGRESS))
        except CorruptCheckpoint as error:
            _warn_skipped(error)
            skipped.append(str(error))
    raise none_is_sound(resolved.run, skipped)


def check_sizes(checkpoint: Checkpoint) -> None:
    """CorruptCheckpoint if the listing lacks a file of the marker, or shows another size."""
    for name, entry in checkpoint.committed.files.items():
        found = checkpoint.sizes.get(name)
        if found is None:
            raise CorruptCheckpoint(checkpoint.name, name, "is missing")
        if found != entry.bytes:
            raise CorruptCheckpoint(checkpoint.name, name, f"has {found} bytes, {entry.bytes} were committed")


def none_is_sound(run: Store, skipped: list[str]) -> UserError:
    """Checkpoints exist but none can be used: never a silent start from scratch."""
    return UserError(
        f"{run.url}: no usable checkpoint: {'; '.join(skipped)}",
        expected="at least one committed checkpoint whose files are as they were written",
        fix="restore the files, name another checkpoint in `resume`, or give the run a new name to start over",
    )


def _load_one(
    files: VerifiedFiles, tensors: dict[str, Any], ranks: Ranks, streams: int
) -> tuple[dict[str, Any], bytes | None]:
    checkpoint = files.checkpoint
    same_world = checkpoint.committed.world_size == ranks.world_size

    reader = CheckpointReader(files, streams=streams, rank=ranks.rank)

    def small_files() -> tuple[bytes, None] | tuple[bytes, bytes]:
        reader.read_metadata()  # here, because torch hides why it cannot be read
        progress = files.read(layout.PROGRESS)
        return (progress, files.read(layout.rank_file(ranks.rank))) if same_world else (progress, None)

    # Gathered only to raise an error everywhere; each rank then uses its own.
    own: list[tuple[bytes, bytes | None]] = []
    ranks.on_all(lambda: own.append(small_files()))
    below = flatten_below(tensors)
    try:
        dcp_load(
            below,
            storage_reader=reader,
            planner=PlainValuesPlanner(),
            process_group=ranks.group,
            no_dist=ranks.group is None,
        )
    except CheckpointException as error:
        raise _explain(checkpoint, root_cause(error)) from None
    put_back(tensors, flatten(below))
    progress, rank_state = own[0]
    return json.loads(progress), rank_state


def require_model(checkpoint: Checkpoint, model_sha256: str) -> None:
    """UserError if a checkpoint is of a model with other settings."""
    found = checkpoint.committed.model_sha256
    if found != model_sha256:
        raise UserError(
            f"{checkpoint.url} holds a model with configuration {found[:12]}..., this run's is {model_sha256[:12]}...",
            expected="a checkpoint of the same `model` settings",
            fix="set `model` as in the checkpoint's config.yaml, or give the run a new name to start over",
        )


def root_cause(error: CheckpointException) -> BaseException:
    """The failure of the lowest rank: all ranks see the same ones."""
    _, (cause, _) = min(error.failures.items())
    return cause


def _explain(checkpoint: Checkpoint, error: BaseException) -> BaseException:
    """A name or shape that the checkpoint lacks is the user's to mend (another optimizer, say)."""
    if isinstance(error, CorruptCheckpoint | UserError | TransferFailed):
        return error
    return UserError(
        f"{checkpoint.url} does not hold this run's tensors ({' '.join(str(error).split())[:300]})",
        expected="the model and optimizer that wrote the checkpoint",
        fix="set `model` and `optimizer` as in the checkpoint's config.yaml, or start a run of another name",
    )


@contextlib.contextmanager
def local_files(
    checkpoint: Checkpoint, local: str | Path | None = None, scratch: str | None = None, *, keep: bool = False
) -> Iterator[VerifiedFiles]:
    """Files of a checkpoint: in place for a local store, else through the node's cache or a temporary folder.

    scratch: where that folder is made. keep: what is fetched into it stays there until the end of the block, to be
    read again.
    """
    if checkpoint.store.is_local:
        yield VerifiedFiles(checkpoint, Path(), keep=True)
    elif local is not None:
        folder = LocalCopies(Path(local), checkpoint.committed.run).folder(checkpoint.name)
        yield VerifiedFiles(checkpoint, folder, keep=True)
    else:
        with tempfile.TemporaryDirectory(prefix="gpt-run-restore-", dir=scratch) as folder_name:
            yield VerifiedFiles(checkpoint, Path(folder_name), keep=keep)


def _warn_skipped(error: CorruptCheckpoint) -> None:
    logger.warning("%s: falling back to an older checkpoint", error)
