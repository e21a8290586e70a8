"""Saves a run: copy to host memory, stream to the store in the background, commit once all ranks are done.

The train loop calls `Saver.save` on every rank at the same step and `poll` in between. A save that fails on one rank
fails on all, is reported as a result and leaves the last good checkpoint alone; it never raises into training.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from trainer.checkpoint import layout
from trainer.checkpoint.attempts import Attempt
from trainer.checkpoint.cleanup import apply_retention
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.layout import CHECKPOINTS, Committed, FileEntry, checkpoint_name
from trainer.checkpoint.local import LocalCopies
from trainer.checkpoint.ranks import Ranks, TransferFailed, quiet_single_process
from trainer.checkpoint.staging import HostCopy, StagedPlanner, flatten, flatten_below, local_part
from trainer.checkpoint.store import Store
from trainer.checkpoint.writer import CheckpointFolder, CheckpointWriter
from trainer.errors import Fenced
from trainer.storage_errors import one_line

logger = logging.getLogger(__name__)

# fsspec's name for the thread in which s3fs, gcsfs and adlfs send and receive.
_CLIENT_THREAD = "fsspecIO"
_LOWEST_PRIORITY = 19


@dataclass(frozen=True)
class Hashes:
    """Identities that a checkpoint carries, hex sha256 each."""

    config_sha256: str
    model_sha256: str
    dataset_sha256: str
    tokenizer_sha256: str


@dataclass(frozen=True)
class Snapshot:
    """Everything of one step that a resume needs."""

    step: int
    tokens: int
    epoch: float
    loss: float
    validation_loss: float | None
    tensors: dict[str, Any]
    """Nested state dict of tensors, DTensors and plain values, the same keys on all ranks; reshards on load."""
    progress: dict[str, Any]
    """JSON-able state that is the same on all ranks."""
    rank_state: bytes
    """State of this rank alone (random generators, say), given back only at the same world size."""
    config_yaml: str
    hashes: Hashes


@dataclass(frozen=True)
class SaveResult:
    """How a save ended; the same on every rank but for `stall_seconds`."""

    step: int
    name: str
    committed: Committed | None = None
    error: str | None = None
    fenced: Fenced | None = None
    stall_seconds: float = 0.0
    """How long training waited: the copy to host memory, the end of the save before, all of it if synchronous."""
    duration_seconds: float = 0.0
    deleted: tuple[str, ...] = ()
    """Checkpoints that retention removed; known on rank 0 alone."""

    @property
    def ok(self) -> bool:
        return self.committed is not None


@dataclass
class _Job:
    """One save on its way."""

    snapshot: Snapshot
    started: float
    error: Exception | None = None
    stall_seconds: float = 0.0
    entries: dict[str, FileEntry] = field(default_factory=dict)

    def result(self, name: str, **outcome: Any) -> SaveResult:
        duration = time.monotonic() - self.started
        return SaveResult(
            self.snapshot.step, name, stall_seconds=self.stall_seconds, duration_seconds=duration, **outcome
        )


class Saver:
    """One rank's end of the run's saves. All calls but `poll` and `busy` are collective."""

    def __init__(
        self,
        attempt: Attempt,
        *,
        group: dist.ProcessGroup | None,
        asynchronous: bool = True,
        streams: int = 4,
        local: str | Path | None = None,
        keep: KeepConfig | None = None,
    ) -> None:
        """group: a gloo group that nothing else uses (a shared one deadlocks), None for a single process."""
        self._attempt = attempt
        self._run = attempt.run
        self._ranks = Ranks(group)
        self._streams = streams
        self._keep = keep or KeepConfig()
        copies = LocalCopies(Path(local), attempt.run.name) if local is not None else None
        self._local = copies if copies is not None and copies.writable() else None
        self._results: list[SaveResult] = []
        self._pending: Future[SaveResult] | None = None
        self._pool = (
            ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=_give_way_to_training)
            if asynchronous
            else None
        )
        self._host = HostCopy()
        if group is None:
            quiet_single_process()

    def save(self, snapshot: Snapshot) -> None:
        """Save this step. Waits for the save before it; asynchronous: returns once the tensors are copied."""
        job = _Job(snapshot, started=time.monotonic())
        self._collect(wait=True)
        live = flatten(snapshot.tensors)
        if self._pool is None:
            result = self._run_job(job, {name: local_part(value) for name, value in live.items()})
            job.stall_seconds = result.duration_seconds
            self._results.append(job.result(result.name, **_outcome(result)))
            return
        taken: dict[str, Any] = {}
        try:
            taken = self._host.take(live)
        except Exception as error:
            # The other ranks are on their way into a collective: take part in it and fail the save there.
            job.error = error
        job.stall_seconds = time.monotonic() - job.started
        self._pending = self._pool.submit(self._run_job, job, taken)

    @property
    def busy(self) -> bool:
        """Whether a save is in flight on this rank: another would wait for it."""
        return self._pending is not None and not self._pending.done()

    def poll(self) -> list[SaveResult]:
        """Results that came in since the last call; never waits."""
        self._collect(wait=False)
        results, self._results = self._results, []
        return results

    def wait(self) -> list[SaveResult]:
        """Like `poll`, after the save in flight has ended."""
        self._collect(wait=True)
        return self.poll()

    def _collect(self, *, wait: bool) -> None:
        if self._pending is not None and (wait or self._pending.done()):
            self._results.append(self._pending.result())
            self._pending = None

    def _run_job(self, job: _Job, taken: dict[str, Any]) -> SaveResult:
        """All of one save behind the copy; runs in the background thread. Never raises."""
        name = checkpoint_name(job.snapshot.step, self._attempt.number)
        try:
            committed = self._ranks.on_first(lambda: self._prepare_folder(name))
            if committed is not None:
                return job.result(name, committed=committed)
            copy = self._local.folder(name) if self._local is not None else None
            folder = CheckpointFolder(self._run.child(f"{CHECKPOINTS}/{name}"), copy)
            self._write(job, taken, folder)
            committed = self._ranks.on_first(lambda: self._commit(job, name))
        except Fenced as fenced:
            return job.result(name, fenced=fenced, error=str(fenced))
        except (Exception, CheckpointException) as error:
            return job.result(name, error=f"checkpoint {name} not saved: {_reason(error)}")
        if self._local is not None:
            self._local.commit(name, layout.marker_bytes(committed))
        deleted = self._retain() if self._ranks.rank == 0 else ()
        return job.result(name, committed=committed, deleted=deleted)

    def _prepare_folder(self, name: str) -> Committed | None:
        """Rank 0: the checkpoint if this attempt has committed it already, else an empty place for it."""
        self._attempt.check_fence()
        folder = self._run.child(f"{CHECKPOINTS}/{name}")
        found = folder.find()
        if layout.MARKER in found:
            return layout.parse_committed(folder.read_bytes(layout.MARKER), folder.url)
        # Only an earlier failed try of our own can have left something: the folder bears our attempt's number.
        for file in found:
            folder.remove(file)
        if found and (left := folder.find()):
            raise TransferFailed(f"{folder.url} holds files of a failed save ({', '.join(sorted(left)[:3])})")
        return None

    def _write(self, job: _Job, taken: dict[str, Any], folder: CheckpointFolder) -> None:
        """All ranks: stream the files; on any rank's failure remove what was written and raise on all."""
        writer = CheckpointWriter(folder, self._ranks.rank, self._streams, self._small_files(job.snapshot))
        writer.error = job.error
        group = self._ranks.group
        try:
            dcp_save(
                flatten_below(job.snapshot.tensors),
                storage_writer=writer,
                planner=StagedPlanner(taken),
                process_group=group,
                no_dist=group is None,
            )
        except BaseException:
            self._remove_written(folder)
            raise
        for entries in self._ranks.on_all(lambda: folder.entries):
            job.entries.update(entries)

    def _small_files(self, snapshot: Snapshot) -> dict[str, bytes]:
        rank = self._ranks.rank
        files = {layout.rank_file(rank): snapshot.rank_state}
        if rank == 0:
            files[layout.PROGRESS] = layout.json_bytes(snapshot.progress)
            files[layout.CONFIG] = snapshot.config_yaml.encode()
        return files

    def _commit(self, job: _Job, name: str) -> Committed:
        """Rank 0: the marker, last and once, if every file has arrived and the run is still ours."""
        folder = self._run.child(f"{CHECKPOINTS}/{name}")
        arrived = folder.find()
        for file, entry in job.entries.items():
            if arrived.get(file) != entry.bytes:
                raise TransferFailed(f"{file} has {arrived.get(file)} bytes in the store, {entry.bytes} were sent")
        snapshot, hashes = job.snapshot, job.snapshot.hashes
        self._attempt.check_fence()
        committed = Committed(
            nonce=uuid.uuid4().hex,
            run=self._run.name,
            step=snapshot.step,
            tokens=snapshot.tokens,
            epoch=snapshot.epoch,
            attempt=self._attempt.number,
            world_size=self._ranks.world_size,
            loss=snapshot.loss,
            validation_loss=snapshot.validation_loss,
            config_sha256=hashes.config_sha256,
            model_sha256=hashes.model_sha256,
            dataset_sha256=hashes.dataset_sha256,
            tokenizer_sha256=hashes.tokenizer_sha256,
            committed_at=datetime.now(UTC),
            duration_seconds=round(time.monotonic() - job.started, 3),
            bytes=sum(entry.bytes for entry in job.entries.values()),
            files=dict(sorted(job.entries.items())),
        ).sealed()
        # If this fails the files stay: the marker may have arrived although its answer did not.
        folder.write_once(layout.MARKER, layout.marker_bytes(committed))
        self._take_back_what_was_emptied(folder, job)
        return committed

    def _take_back_what_was_emptied(self, folder: Store, job: _Job) -> None:
        """Rank 0: no marker stays without its files.

        It may have been on its way for as long as a network was cut or this process stood still. An attempt that took
        over then, and has committed itself, has removed the folder's files as those of a torn save.
        """
        try:
            missing = sorted(job.entries.keys() - folder.find().keys())
        except Exception as error:  # readers look at the files as well
            logger.warning("%s is committed, and was not looked at again: %s", folder.url, one_line(error))
            return
        if not missing:
            return
        try:
            self._attempt.check_fence()
        except Fenced:
            folder.remove(layout.MARKER)
            raise
        raise TransferFailed(f"{folder.url} was committed and lacks {missing[0]}")

    def _retain(self) -> tuple[str, ...]:
        """Rank 0: delete what no tier holds. A failure costs space, not the save."""
        try:
            self._attempt.check_fence()
            return apply_retention(self._run, self._keep, attempt=self._attempt).deleted
        except Exception as error:
            logger.warning("old checkpoints stay for now: %s", one_line(error))
            return ()

    def _remove_written(self, folder: CheckpointFolder) -> None:
        """Best effort: a folder without a marker is no checkpoint, only space."""
        for file in folder.entries:
            with contextlib.suppress(Exception):
                folder.store.remove(file)
        folder.store.remove_folder("")


def _give_way_to_training() -> None:
    """Let this thread, those it will start and the storage client's take only what processor time training leaves.

    Linux has priorities per thread, and new threads inherit them. A save that training waits for, such as the last one,
    has the processors to itself all the same.
    """
    if sys.platform != "linux":
        return
    client = [thread.native_id for thread in threading.enumerate() if thread.name == _CLIENT_THREAD]
    for thread_id in (threading.get_native_id(), *client):
        if thread_id is not None:
            with contextlib.suppress(OSError):  # a sandbox may forbid it; saves work without
                os.setpriority(os.PRIO_PROCESS, thread_id, _LOWEST_PRIORITY)


def _outcome(result: SaveResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in ("committed", "error", "fenced", "deleted")}


def _reason(error: BaseException) -> str:
    """One line for people; of torch's collection of failures, the ranks' own messages."""
    if isinstance(error, CheckpointException):
        return "; ".join(sorted({str(failure) for failure, _ in error.failures.values()}))
    return str(error) if isinstance(error, TransferFailed) else one_line(error)
