"""Reads one rank's part of a checkpoint: only the files its plan needs, each verified before it is read.

`CheckpointReader` is torch's FileSystemReader over a folder on this machine into which files are fetched from the store
on demand, in parallel. A local store is read in place. The loader is the main caller.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from trainer.checkpoint.layout import METADATA, Checkpoint, CorruptCheckpoint, FileEntry
from trainer.checkpoint.ranks import portable
from trainer.checkpoint.unpickling import read_metadata
from trainer.durable import replacing

READ_BYTES = 4 * 2**20


class VerifiedFiles:
    """Files of a checkpoint on this machine's disk, each there only with the size and hash of the marker."""

    def __init__(self, checkpoint: Checkpoint, folder: Path, *, keep: bool) -> None:
        """keep: the folder is a cache; otherwise files are dropped once they were read."""
        self.checkpoint = checkpoint
        self.in_place = checkpoint.store.is_local
        self.folder = checkpoint.store.local_path() if self.in_place else folder
        self._keep = keep or self.in_place
        self._verified: set[str] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Path of a verified file for the length of the block. CorruptCheckpoint if it is not what was committed."""
        path = self.folder / name
        with self._lock:
            known = name in self._verified
        if not known and not self._present(name, path):
            self._fetch(name, path)
        with self._lock:
            self._verified.add(name)
        yield path
        if not self._keep:
            with self._lock:
                self._verified.discard(name)
            path.unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """A small file whole."""
        with self.file(name) as path:
            return path.read_bytes()

    def check(self, name: str) -> None:
        """Compare a file in the store with the marker, whatever copies there are, and keep nothing."""
        if self.in_place:
            self._present(name, self.folder / name)
            return
        path = self.folder / name
        self._fetch(name, path)
        path.unlink(missing_ok=True)

    def _present(self, name: str, path: Path) -> bool:
        """True if the file on disk is the committed one. In place a wrong one is an error, in a cache it is fetched."""
        try:
            self._compare(name, path)
        except CorruptCheckpoint:
            if self.in_place:
                raise
            return False
        return True

    def _fetch(self, name: str, path: Path) -> None:
        entry = self.entry(name)
        listed = self.checkpoint.sizes.get(name)
        try:
            if listed is None:
                raise FileNotFoundError(name)
            if listed != entry.bytes:
                raise self._corrupt(name, f"has {listed} bytes, {entry.bytes} were committed")
            try:
                self._download(name, path, entry.bytes)
            except CorruptCheckpoint:
                self._download(name, path, entry.bytes)  # it may have been damaged on its way
        except FileNotFoundError as error:
            raise self._corrupt(name, "is missing") from error

    def _download(self, name: str, path: Path, size_bytes: int) -> None:
        with replacing(path, durable=False) as temporary:
            self._compare_hash(name, self.checkpoint.store.download(name, temporary, size_bytes))

    def _compare(self, name: str, path: Path) -> None:
        expected = self.entry(name).bytes
        try:
            found = path.stat().st_size
            if found != expected:
                raise self._corrupt(name, f"has {found} bytes, {expected} were committed")
            self._compare_hash(name, sha256_of(path))
        except FileNotFoundError as error:
            raise self._corrupt(name, "is missing") from error

    def _compare_hash(self, name: str, found: str) -> None:
        expected = self.entry(name).sha256
        if found != expected:
            raise self._corrupt(name, f"has sha256 {found[:12]}..., {expected[:12]}... was committed")

    def entry(self, name: str) -> FileEntry:
        """What was committed under a name. CorruptCheckpoint if nothing was."""
        entry = self.checkpoint.committed.files.get(name)
        if entry is None:
            raise self._corrupt(name, "is not in the marker's list")
        return entry

    def _corrupt(self, name: str, reason: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(self.checkpoint.name, name, reason)


class CheckpointReader(FileSystemReader):
    """One rank's storage reader for one load."""

    def __init__(self, files: VerifiedFiles, *, streams: int, rank: int = 0) -> None:
        super().__init__(files.folder)
        self._files = files
        self._streams = streams
        self._own_rank = rank
        self._known: Metadata | None = None

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Metadata:
        """The .metadata, after its hash was compared, and without what torch would let it do (`unpickling`).

        Read once: that of a large world takes long, and whoever loads tensor by tensor asks each time.
        """
        if self._known is None:
            try:
                with self._explained(METADATA):
                    self._known = read_metadata(self._files.read(METADATA))
            except Exception as error:
                raise portable(error, self._own_rank) from None
            self._known.storage_meta = self._known.storage_meta or StorageMeta()
            self._known.storage_meta.load_id = self.load_id
        return self._known

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fetch, verify and read the plan's files, `streams` at a time."""
        per_file: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            per_file.setdefault(self.storage_data[item.storage_index].relative_path, []).append(item)

        def read_one(name: str) -> None:
            with self._files.file(name), self._explained(name):
                super(CheckpointReader, self).read_data(LoadPlan(per_file[name]), planner)

        try:
            with ThreadPoolExecutor(max_workers=self._streams, thread_name_prefix="restore") as pool:
                list(pool.map(read_one, sorted(per_file)))
        except Exception as error:
            # Storage clients' exceptions do not pickle, and torch pickles what is raised here.
            raise portable(error, self._own_rank) from None
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turn a pickle's attempt to call something, and a file that was deleted, into a checkpoint without use."""
        try:
            yield
        except FileNotFoundError as error:
            if not self._files.in_place:
                raise  # what lies in a cache is nobody's checkpoint
            raise CorruptCheckpoint(self._files.checkpoint.name, name, "is missing") from error
        except pickle.UnpicklingError as error:
            # torch's own words go on with advice to load it all the same.
            blocked = re.search(r"\bGLOBAL (\S+)", str(error))
            found = f"it names {blocked[1]}, which none needs" if blocked else str(error).partition(". ")[0]
            reason = f"is no part of a checkpoint: {' '.join(found.split())[:300]}"
            raise CorruptCheckpoint(self._files.checkpoint.name, name, reason) from error


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read once in big pieces."""
    digest = hashlib.sha256()
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while taken := stream.readinto(buffer):
            digest.update(view[:taken])
    return digest.hexdigest()
