"""Copies of checkpoints on the node's own disk: a restart there reads them instead of the store.

The Saver fills them while it streams to the store, the loader fills them with what it fetches. They are only ever used
after their bytes were compared with the hash in the store's marker, so a stale or broken copy costs nothing but a
download.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from trainer.checkpoint.layout import CHECKPOINTS, MARKER, parse_name
from trainer.durable import write_atomically

logger = logging.getLogger(__name__)

# The newest may turn out to be unusable, so one more stays.
KEEP_COPIES = 2


class LocalCopies:
    """Copies of one run's checkpoints in a folder that all ranks of a node share."""

    def __init__(self, root: Path, run: str) -> None:
        self._root = root / run / CHECKPOINTS

    def folder(self, name: str) -> Path:
        """Where the copy of a checkpoint's files lies, or would."""
        return self._root / name

    def writable(self) -> bool:
        """Make the folder; False, with one warning, where that is not possible: a run goes on without copies."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._root):
                return True
        except OSError as error:
            logger.warning("no local copies of checkpoints in %s: %s", self._root, error)
            return False

    def commit(self, name: str, marker: bytes) -> None:
        """Drop older copies and put the marker beside this node's files. Failures are logged: it is only a copy."""
        try:
            self._drop_older(name)  # first: on a disk that is full there is no room for the marker before
            write_atomically(self.folder(name) / MARKER, marker, durable=False)
        except OSError as error:
            logger.warning("local copy of %s: %s", name, error)

    def _drop_older(self, name: str) -> None:
        present = sorted(entry.name for entry in self._root.iterdir() if parse_name(entry.name) is not None)
        older = [entry for entry in present if entry < name]
        for entry in older[: max(0, len(older) - KEEP_COPIES + 1)]:
            shutil.rmtree(self._root / entry, ignore_errors=True)
