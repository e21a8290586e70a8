"""Bounded cache of remote shards on the local disk, shared by all processes of a node.

A file is downloaded to a temporary name, checked (hash where one is known, else size), synced and renamed; so a name
that exists is whole. A lock file per entry lets one process download while the others wait for it; it is a kernel lock
that dies with its owner. Before a download the least recently used entries are removed until the new one fits, those
that a reader holds last: it keeps what it has mapped, and the disk space with it, also after the name is gone. Files
that are not the cache's own are left alone. Used by `trainer.data.dataset` and `trainer.data.formats`.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from trainer.data.remote import Location
from trainer.data.shards import file_sha256
from trainer.durable import durable_rename, full_disk_named
from trainer.errors import UserError

logger = logging.getLogger(__name__)

# An entry is named HASH-NAME, and HASH-NAME.BYTES.part while it is written.
_OWN_NAME = re.compile(r"[0-9a-f]{64}-.*")
_OWN_PART = re.compile(r"[0-9a-f]{64}-.*\.(?P<bytes>\d+)\.part")


class ShardCache:
    """Local copies of remote files under `folder`, at most `max_bytes` of them."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._checked: set[Path] = set()
        try:
            (folder / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"data.cache.path {folder}: {error.strerror}",
                expected="a folder that this user may write",
                fix="set data.cache.path to a writable folder on a local disk",
            ) from error

    def fetch(self, source: Location, *, size: int, sha256: str | None = None) -> Path:
        """Path of a whole local copy of `source`; downloads it where there is none.

        The caller holds and maps the file at once: another process may remove its name to make room. A copy whose hash
        or size is wrong is deleted and fetched once more; the second failure is a UserError that names both values.
        """
        key = sha256 or hashlib.sha256(f"{source.url}\n{_version(source)}".encode()).hexdigest()
        entry = self.folder / f"{key}-{source.name}"
        with self._full_disk_named(source.url, size), self._lock(entry.name):
            # Other processes may remove the entry at any moment; then it is as if it had not been there.
            with suppress(FileNotFoundError):
                found = self._fault(entry, size, sha256)
                if found is None:
                    self._checked.add(entry)
                    os.utime(entry)
                    return entry
                logger.warning("cached copy of %s is damaged (%s): fetching it again", source.url, found)
                self._remove(entry)
            self._download(source, entry, size, sha256)
            return entry

    def derive(self, key: str, size: int, write: Callable[[Path], None]) -> Path:
        """Path of a file that `write` makes out of another one, such as an unpacked archive member.

        `key` is HASH-NAME with a hex sha256 that names the content.
        """
        entry = self.folder / key
        with self._full_disk_named(key, size), self._lock(key):
            with suppress(FileNotFoundError):
                os.utime(entry)
                return entry
            with self._reserve(entry, size) as part:
                write(part)
                durable_rename(part, entry)
            return entry

    def _download(self, source: Location, entry: Path, size: int, sha256: str | None) -> None:
        for last in (False, True):
            with self._reserve(entry, size) as part:
                try:
                    source.download(part)
                except FileNotFoundError as error:
                    raise file_is_gone(source) from error
                found = self._fault(part, size, sha256)
                if found is None:
                    durable_rename(part, entry)
                    self._checked.add(entry)
                    return
            if last:
                raise UserError(
                    f"shard {source.url} is damaged, twice: {found}",
                    expected=f"sha256 {sha256}" if sha256 else f"{size} bytes",
                    fix="upload the shard again from where it was prepared",
                )
            logger.warning("download of %s is damaged (%s): trying once more", source.url, found)

    def _fault(self, path: Path, size: int, sha256: str | None) -> str | None:
        """What is wrong with a copy, or None. An entry is hashed once per process: a disk may rot between runs."""
        actual = path.stat().st_size
        if actual != size:
            return f"found {actual} bytes, expected {size}"
        if sha256 is None or path in self._checked:
            return None
        digest = file_sha256(path)
        return None if digest == sha256 else f"found sha256 {digest}, expected {sha256}"

    @contextmanager
    def _reserve(self, entry: Path, size: int) -> Iterator[Path]:
        """Make room for `entry` and claim it with a temporary file, whose name counts as `size` bytes until the end."""
        if size > self.max_bytes:
            raise UserError(
                f"{entry.name} has {size} bytes, data.cache.max_bytes is {self.max_bytes}",
                expected="a cache that holds at least one shard",
                fix=f"set data.cache.max_bytes to more than {size}",
            )
        # One name per entry, written under its lock: what a killed process left is overwritten, not piled up.
        part = entry.with_name(f"{entry.name}.{size}.part")
        with self._lock("evict"):
            own = [path for path in self.folder.iterdir() if _OWN_NAME.fullmatch(path.name) and path != part]
            stats = [(path, stat) for path in own if (stat := _stat(path)) is not None]
            self._make_room(sorted(stats, key=lambda item: item[1].st_mtime_ns), size)
            part.touch()
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, entries: list[tuple[Path, os.stat_result]], size: int) -> None:
        """Remove entries, which come oldest first, until `size` bytes fit; what a reader holds comes last."""
        total = sum(_claimed_bytes(path, stat) for path, stat in entries)
        for held_too in (False, True):
            for path, stat in list(entries):
                if total + size <= self.max_bytes:
                    return
                if _OWN_PART.fullmatch(path.name) and self._is_locked(_entry_name(path)):
                    continue  # Somebody is downloading it: the bound may be passed by what is under way.
                if _is_held(path) and not held_too:
                    continue
                self._remove(path)
                entries.remove((path, stat))
                total -= _claimed_bytes(path, stat)

    def _full_disk_named(self, what: str, size: int) -> AbstractContextManager[None]:
        return full_disk_named(
            self.folder,
            needs=f"{what}, {size} bytes (data.cache.max_bytes is {self.max_bytes})",
            fix="free space there, set data.cache.path to a folder on a larger disk or lower data.cache.max_bytes",
        )

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._checked.discard(path)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self.folder / "locks" / name).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _is_locked(self, name: str) -> bool:
        with (self.folder / "locks" / name).open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False


def hold(path: Path) -> Callable[[], None]:
    """Keep an entry from being removed before others; returns what lets go of it, as the end of the process does.

    Raises FileNotFoundError where the entry is gone already.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return partial(os.close, descriptor)


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def file_is_gone(source: Location) -> UserError:
    """The error for a file that was there when its data set was opened."""
    return UserError(
        f"{source.url} is gone",
        expected="a data set that stays in place while a run reads it",
        fix="put the file back, or prepare the data set again",
    )


def _version(source: Location) -> str:
    try:
        return source.version()
    except FileNotFoundError as error:
        raise file_is_gone(source) from error


def _claimed_bytes(path: Path, stat: os.stat_result) -> int:
    unfinished = _OWN_PART.fullmatch(path.name)
    return int(unfinished["bytes"]) if unfinished else stat.st_size


def _entry_name(part: Path) -> str:
    return part.name.rsplit(".", 2)[0]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
