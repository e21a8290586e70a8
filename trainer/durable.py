"""Files that are whole or not there at all, also after a kill or a power cut.

Checkpoints, data sets and downloads write their files through it. A file gets its name when all its bytes are there;
a rename is on the disk once the folder that holds the name is.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


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


def discard(upload: Any) -> None:
    """Give up what fsspec was writing to a bucket, so that it appears neither now nor when the stream is collected."""
    with suppress(Exception):  # the client's own clean-up is best effort
        upload.discard()
    upload.closed = True
