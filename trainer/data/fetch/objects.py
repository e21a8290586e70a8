"""Files on anything fsspec knows: buckets, other disks. Reads by ranges, tells versions by the store's own marks.

Made by `listing`. The client's coroutines run on fsspec's own thread, so that a fetch can be cancelled while it waits.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from trainer.data.fetch.checksums import Hash
from trainer.data.fetch.config import MIB
from trainer.data.fetch.remote import Answer, Changed, Cut, Facts
from trainer.data.remote import Location, version_of
from trainer.storage_errors import clean_url

# What one request asks for; each stream holds one answer in memory.
REQUEST_BYTES = 8 * MIB
_MODIFIED_KEYS = ("mtime", "LastModified", "last_modified")


class ObjectFile:
    """One file of a bucket or disk."""

    def __init__(self, location: Location, facts: Facts | None = None) -> None:
        """`facts` are those of a listing, where one was read."""
        self._location, self._facts = location, facts

    @property
    def url(self) -> str:
        """Without secrets."""
        return clean_url(self._location.url)

    @property
    def pace(self) -> None:
        """A bucket is the user's own account: only its answers slow a fetch down."""
        return

    async def stat(self) -> Facts:
        """Size, version and hash; from the listing if there was one."""
        if self._facts is None:
            self._facts = await self._ask()
        return self._facts

    @asynccontextmanager
    async def open(self, start: int, stop: int | None, version: str | None) -> AsyncIterator[Answer]:
        """The bytes [start, stop), in several requests if need be."""
        facts = await self.stat()
        if version is not None and version != facts.version:
            raise Changed(f"{self.url}: version {facts.version} instead of {version}")
        size = facts.num_bytes or 0
        stop = size if stop is None else min(stop, size)
        yield Answer(facts, start, ranged=True, ends=True, chunks=self._chunks(start, stop))

    async def confirm(self, version: str | None) -> None:
        """Ask once more: requests for ranges do not name the version."""
        self._facts = await self._ask()
        if self._facts.version != version:
            raise Changed(f"{self.url}: version {self._facts.version} instead of {version}")

    async def _chunks(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        fs, path = self._location.fs, self._location.path
        for begin in range(start, stop, REQUEST_BYTES):
            end = min(begin + REQUEST_BYTES, stop)
            chunk = await call(fs, "cat_file", path, start=begin, end=end)
            if chunk:
                yield chunk[: end - begin]
            if len(chunk) != end - begin:
                raise Cut(f"{len(chunk)} of {end - begin} bytes at byte {begin}")

    async def _ask(self) -> Facts:
        fs, path = self._location.fs, self._location.path
        fs.invalidate_cache(path)
        fs.invalidate_cache(path.rpartition("/")[0])
        return facts_of(await call(fs, "info", path))


async def call(fs: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """Call a file system's method without blocking; its coroutine where it has one, else in a thread."""
    if getattr(fs, "async_impl", False):
        coroutine = getattr(fs, f"_{method}")(*args, **kwargs)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, fs.loop))
    return await asyncio.to_thread(getattr(fs, method), *args, **kwargs)


def facts_of(info: Mapping[str, Any]) -> Facts:
    """Facts from an entry of a listing, in the words of s3fs, gcsfs, adlfs or fsspec's own file systems."""
    modified = next((info[key] for key in _MODIFIED_KEYS if info.get(key)), None)
    if isinstance(modified, datetime):
        modified = modified.timestamp()
    if isinstance(modified, str):
        modified = None
    size = info.get("size")
    return Facts(None if size is None else int(size), version_of(info), modified, _stored_md5(info))


def _stored_md5(info: Mapping[str, Any]) -> Hash | None:
    """The md5 that GCS computes (base64) and that Azure keeps if the writer gave it (bytes)."""
    digest = info.get("md5Hash")
    if isinstance(digest, str):
        return Hash("md5", base64.b64decode(digest).hex())
    content_md5 = getattr(info.get("content_settings"), "content_md5", None)
    return Hash("md5", bytes(content_md5).hex()) if content_md5 else None
