"""A full disk as an error that the user can act on. Used by the shard cache and by preparation."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import UserError


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
