"""A local folder that several processes may want to write, or that may be full. Used by all that writes data."""

from __future__ import annotations

import errno
import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import UserError

logger = logging.getLogger(__name__)


@contextmanager
def full_disk_named(folder: Path, *, needs: str, fix: str) -> Iterator[None]:
    """Turn the OSError of a full disk or quota below `folder`, which exists, into a UserError; others pass through."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free_bytes = shutil.disk_usage(folder).free
        raise UserError(
            f"{folder}: {error.strerror}; its disk has {free_bytes} bytes free", expected=f"room for {needs}", fix=fix
        ) from error


@contextmanager
def sole_owner(lock: Path, doing: str) -> Iterator[None]:
    """Wait until no other process holds the lock file, whose folder exists. The kernel drops it when its owner dies."""
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("another process %s: waiting for it to end", doing)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
