"""A file that is being received: its bytes in any order, and a record of which are there.

`download` writes through it. The record is written after the bytes are on the disk, so a resumed file never counts
bytes that a crash took; and the file takes its own name only when all of it is there. HASH.part holds the bytes,
HASH.json the record.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.data.fetch import ranges
from trainer.data.fetch.remote import Facts
from trainer.durable import durable_rename, write_atomically

# How much work a kill may cost, and how often a disk is asked to sync.
SAVE_SECONDS = 1.0


class Partial:
    """One file under way. Close it."""

    def __init__(self, folder: Path, name: str, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Open what an interrupted fetch of `name` from `url` left in `folder`, or begin."""
        key = hashlib.sha256(name.encode()).hexdigest()[:40]
        self.path, self._record = folder / f"{key}.part", folder / f"{key}.json"
        self._url, self._clock, self._saved = url, clock, clock()
        self.facts, self.covered = self._load()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        if self.facts is None:
            self.restart()

    @property
    def num_bytes(self) -> int:
        """Bytes that are here."""
        return ranges.total(self.covered)

    def begin(self, facts: Facts) -> None:
        """Note what file this is, before its first byte is written."""
        self.facts = facts

    def restart(self) -> None:
        """Drop all bytes; the record goes first, so that it never tells of bytes that are not there."""
        self._record.unlink(missing_ok=True)
        os.ftruncate(self._file, 0)
        self.facts, self.covered = None, ()

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes in their place."""
        view = memoryview(content)
        while view:
            written = os.pwrite(self._file, view, offset)
            self.covered = ranges.add(self.covered, offset, offset + written)
            view, offset = view[written:], offset + written

    def is_due(self) -> bool:
        """Whether it is time to save; says so once."""
        due = self._clock() - self._saved >= SAVE_SECONDS
        if due:
            self._saved = self._clock()
        return due

    def save(self) -> None:
        """Make what is here survive a crash of the machine. Waits for the disk; writes may go on meanwhile."""
        facts, covered = self.facts, self.covered
        if facts is None:
            return
        os.fsync(self._file)
        record = {"url": self._url, "num_bytes": facts.num_bytes, "version": facts.version, "covered": covered}
        write_atomically(self._record, json.dumps(record).encode())

    def missing(self, num_bytes: int, piece_bytes: int) -> Iterator[ranges.Range]:
        """What is still to come, in pieces."""
        return ranges.missing(self.covered, num_bytes, piece_bytes)

    def complete(self, target: Path, modified: float | None) -> None:
        """Give the file its own name, in one step, with the time of its last change where the server told it."""
        if modified is not None:
            os.utime(self._file, (modified, modified))
        durable_rename(self.path, target)
        self._record.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep what is here for the next fetch."""
        os.close(self._file)

    def _load(self) -> tuple[Facts | None, tuple[ranges.Range, ...]]:
        try:
            record = json.loads(self._record.read_bytes())
            covered = tuple((int(start), int(stop)) for start, stop in record["covered"])
            facts = Facts(record["num_bytes"], record["version"])
            size = self.path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return None, ()
        same = record["url"] == self._url and ranges.are_valid(covered, facts.num_bytes)
        if not same or (covered and covered[-1][1] > size):
            return None, ()
        return facts, covered
