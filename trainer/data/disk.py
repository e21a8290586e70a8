"""A local folder that several processes may want to write. Used by all that writes data."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)


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
