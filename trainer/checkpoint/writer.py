"""Writes one rank's part of a checkpoint: each file streamed once, hashed and counted on the way.

`CheckpointWriter` is torch's FileSystemWriter with a file system of ours, so the files are ordinary DCP files. Torch's
writer loses exceptions of its side threads; here they are caught at the stream and raised when the threads are done.
The Saver is the only caller.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from torch.distributed.checkpoint.filesystem import FileSystemBase, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future
from torch.serialization import set_crc32_options

from trainer.checkpoint.layout import METADATA, FileEntry
from trainer.checkpoint.ranks import TransferFailed, portable
from trainer.checkpoint.store import Store

logger = logging.getLogger(__name__)

# Slices handed to the store's client: it copies them under the GIL, which the training thread wants back soon.
SLICE_BYTES = 2 * 2**20
# Pickled headers come in writes of a few bytes; they are collected up to this size.
COLLECT_BYTES = 256 * 2**10


class HashingStream(io.RawIOBase):
    """Counts and hashes what passes into a sink and, as long as that works, into a local copy."""

    def __init__(self, sink: IO[bytes], copy: IO[bytes] | None = None) -> None:
        super().__init__()
        self._sink = sink
        self._copy = copy
        self._hash = hashlib.sha256()
        self._position = 0
        self._collected = bytearray()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._position += len(view)
        if len(view) < COLLECT_BYTES:
            self._collected += view
            if len(self._collected) >= COLLECT_BYTES:
                self._pass_collected()
            return len(view)
        self._pass_collected()
        for start in range(0, len(view), SLICE_BYTES):
            self._pass(view[start : start + SLICE_BYTES])
        return len(view)

    def finish(self) -> FileEntry:
        """Pass the rest on; bytes and hash of the whole."""
        self._pass_collected()
        return FileEntry(bytes=self._position, sha256=self._hash.hexdigest())

    def _pass_collected(self) -> None:
        if self._collected:
            collected, self._collected = self._collected, bytearray()
            self._pass(memoryview(collected))

    def _pass(self, view: memoryview) -> None:
        self._hash.update(view)
        _write_whole(self._sink, view)
        if self._copy is not None:
            try:
                _write_whole(self._copy, view)
            except OSError as error:
                logger.warning("local copy given up, the save goes on: %s", error)
                Path(self._copy.name).unlink(missing_ok=True)  # half a file is of no use, and takes room
                self._copy = None


# ruff: noqa: ARG002, ARG003  # the signatures are torch's
class _RefusingStream(io.RawIOBase):
    """Stands for a file that could not be opened, or need not be any more: the first write ends its thread's work."""

    def write(self, data: Any, /) -> int:
        raise TransferFailed("a file of this save failed")


class CheckpointFolder(FileSystemBase):
    """torch's file system interface over the store's folder of one checkpoint, and over its local copy."""

    def __init__(self, store: Store, local: Path | None) -> None:
        self.store = store
        self.local = local
        self.entries: dict[str, FileEntry] = {}
        self._metadata = io.BytesIO()
        self._error: Exception | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[io.IOBase, None, None]:
        assert mode == "wb"
        name = str(path)
        if name.startswith(METADATA):
            # torch writes .metadata.tmp and renames it, which object stores cannot: `rename` writes it instead.
            self._metadata = io.BytesIO()
            yield self._metadata
            return
        # Errors are kept for `raise_first_error`: torch's side threads would lose them, and write on without the file.
        try:
            with contextlib.ExitStack() as stack:
                stream: io.IOBase = _RefusingStream()
                if self._error is None:
                    try:
                        stream = stack.enter_context(self._streaming(name))
                    except Exception as error:
                        self._note(error)
                yield stream
        except Exception as error:
            self._note(error)

    def write_file(self, name: str, data: bytes | memoryview) -> None:
        """A whole small file."""
        with self._streaming(name) as stream:
            stream.write(data)

    def raise_first_error(self) -> None:
        """Raise what the first failing stream met, if one did."""
        if self._error is not None:
            raise self._error

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        self.write_file(str(new_path), self._metadata.getbuffer())

    def concat_path(self, path: str | os.PathLike[str], suffix: str) -> str:
        return suffix

    def init_path(self, path: str | os.PathLike[str]) -> str:
        return ""

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Folders come with their files."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return True

    def exists(self, path: str | os.PathLike[str]) -> bool:
        return str(path) in self.entries

    def rm_file(self, path: str | os.PathLike[str]) -> None:
        raise AssertionError(f"{path}: nothing is overwritten")

    def _note(self, error: Exception) -> None:
        with self._lock:
            self._error = self._error or error

    @contextlib.contextmanager
    def _streaming(self, name: str) -> Generator[HashingStream, None, None]:
        with contextlib.ExitStack() as stack:
            copy = stack.enter_context(_local_copy(self.local / name)) if self.local else None
            sink = stack.enter_context(self.store.open_write(name))
            stream = HashingStream(sink, copy)
            yield stream
            entry = stream.finish()
        with self._lock:
            self.entries[name] = entry


class CheckpointWriter(FileSystemWriter):
    """One rank's storage writer for one save."""

    def __init__(self, folder: CheckpointFolder, rank: int, streams: int, small_files: Mapping[str, bytes]) -> None:
        super().__init__("", sync_files=False, thread_count=streams, overwrite=False)
        # Of torch.save, for the whole process: every file has its SHA-256, and torch.load looks at no other sum.
        set_crc32_options(compute_crc32=False)
        self.fs = cast(Any, folder)  # torch annotates its own file system, and calls any
        self.path = folder.init_path("")
        self._folder = folder
        self._rank = rank
        self._small_files = small_files
        self.error: Exception | None = None

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Small files, then the tensors. Runs where torch carries an exception to all ranks."""
        try:
            if self.error is not None:
                raise self.error
            for name, data in self._small_files.items():
                self._folder.write_file(name, data)
            written = super().write_data(plan, planner)
            self._folder.raise_first_error()
        except Exception as error:
            # Storage clients' exceptions do not pickle, and torch pickles what is raised here.
            raise portable(error, self._rank) from None
        return written

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Rank 0: write .metadata."""
        try:
            super().finish(metadata, results)
        except Exception as error:
            raise portable(error, self._rank) from None


def _write_whole(sink: IO[bytes], view: memoryview) -> None:
    """Unbuffered files may take less than they are given."""
    while len(view):
        taken = sink.write(cast("bytes", view))
        view = view[taken:]


@contextlib.contextmanager
def _local_copy(path: Path) -> Generator[IO[bytes] | None, None, None]:
    """A file of the local copy; None, with a warning, where it cannot be made: the copy is a convenience."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("wb", buffering=0)
    except OSError as error:
        logger.warning("no local copy of %s: %s", path.name, error)
        yield None
        return
    with stream:
        yield stream
