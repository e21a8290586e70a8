"""Files and folders that are whole or not there at all, also after a kill or a power cut.

Checkpoints, data sets, downloads and exports are written through it. A file gets its name when all its bytes are there;
a rename is on the disk once the folder that holds the name is.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trainer.errors import UserError


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file that is either absent or whole; `durable` waits until the disk has it."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A file of this process alone that becomes `path` when the block ends well, and goes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        if durable:
            durable_rename(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends well, and goes when it does not."""
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for file in unfinished.iterdir():
            sync(file)
        sync(unfinished)
        if folder.exists():
            # A name cannot pass from one folder with files to another in one go; of the two moments between, the one
            # without any folder of that name is the one that nobody can take for an export.
            old = folder.with_name(f"{unfinished.name}.old")
            folder.rename(old)
            unfinished.rename(folder)
            shutil.rmtree(old)
        else:
            unfinished.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def require_space(folder: Path, needed_bytes: int, *, purpose: str, fix: str) -> None:
    """UserError if the disk of `folder`, or of the first folder above it that exists, has less room than that."""
    free_bytes = _free_bytes(folder)
    if free_bytes < needed_bytes:
        raise UserError(
            f"the disk of {folder} has {free_bytes:,} bytes free",
            expected=f"{needed_bytes:,} bytes for {purpose}",
            fix=fix,
        )


@contextmanager
def full_disk_named(folder: Path, *, needs: str, fix: str) -> Iterator[None]:
    """Turn the OSError of a full disk or quota below `folder` into a UserError that names it; others pass through."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{folder}: {error.strerror}; its disk has {_free_bytes(folder)} bytes free",
            expected=f"room for {needs}",
            fix=fix,
        ) from error


def durable_rename(temporary: Path, path: Path) -> None:
    """Give a file that is whole its name, so that it is there also after a power cut."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the disk has a file's bytes, or a folder's names: a file's own sync says nothing about its name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def discard(upload: Any) -> None:
    """Give up what fsspec was writing to a bucket, so that it appears neither now nor when the stream is collected."""
    with suppress(Exception):  # the client's own clean-up is best effort
        upload.discard()
    upload.closed = True
