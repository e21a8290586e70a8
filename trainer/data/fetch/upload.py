"""Bringing a local folder up to a bucket, one file at a time or several.

`run` makes one `Uploader` for a fetch and calls `send` for each file. An object appears when its upload is complete and
not before: stores show nothing of an upload in parts until its last call, and SHA256SUMS goes up after all files.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock

from trainer.data.fetch.checksums import SUMS_FILE, Checksums, parse, render
from trainer.data.fetch.config import MIB, FetchConfig
from trainer.data.fetch.objects import call, facts_of
from trainer.data.fetch.pace import Pace
from trainer.data.fetch.remote import Facts, Unusable
from trainer.data.fetch.report import Action, Outcome
from trainer.data.fetch.retry import Retry
from trainer.data.fetch.tasks import in_thread
from trainer.data.progress import Display
from trainer.data.remote import Location, is_hidden
from trainer.durable import discard
from trainer.errors import UserError
from trainer.storage_errors import clean_url

# A part of an upload: each stream holds one in memory, and S3 allows 10,000 of them (320 GB a file).
PART_BYTES = 32 * MIB


@dataclass(frozen=True)
class Digests:
    """Hashes of a local file: what SHA256SUMS says, and what stores say."""

    num_bytes: int
    sha256: str
    md5: str
    parts_etag: str
    """S3's ETag of the file in parts of PART_BYTES."""


class Interrupted(Exception):
    """The fetch ends: an upload under way is given up."""


@dataclass
class Uploader:
    """What all files of an upload share."""

    config: FetchConfig
    target: Location
    retry: Retry
    display: Display
    there: Mapping[str, Facts]
    """What the target holds, by name."""
    sums: Checksums | None
    """The target's SHA256SUMS."""
    ending: Event = field(default_factory=Event)
    clock: Callable[[], float] = time.monotonic
    _pace: Pace = field(init=False)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._pace = Pace(self.config.bytes_per_second)

    async def send(self, name: str, path: Path) -> Outcome:
        """Bring a file up, or find that it is there. Raises Unusable or the client's error."""
        digests = await asyncio.to_thread(digest, path)
        there, place = self.there.get(name), self.target.join(name)
        action: Action = "skipped" if there is not None and self._is_same(name, digests, there) else "fetched"
        if action != "skipped":
            self.display.start(name, digests.num_bytes, 0)
            action = "fetched" if there is None else "replaced"
            await self.retry.call(lambda: in_thread(lambda: self._upload(place, name, path, digests), self.ending))
            place.fs.invalidate_cache()
            arrived = facts_of(await self.retry.call(lambda: call(place.fs, "info", place.path)))
            if arrived.num_bytes != digests.num_bytes:
                raise Unusable("truncated", f"{arrived.num_bytes} of {digests.num_bytes} bytes arrived")
        self.display.end(name, digests.num_bytes)
        listed = self.sums.of(name) if self.sums is not None and action == "skipped" else None
        # What was passed over for its size may be another file than the one here: its own hash stays.
        sha256 = digests.sha256 if listed is None else listed.digest
        return Outcome(name=name, url=clean_url(place.url), action=action, bytes=digests.num_bytes, sha256=sha256)

    async def finish(self, sha256s: Mapping[str, str]) -> str:
        """Write SHA256SUMS of these files, and of those it listed before that are still there; its URL."""
        kept = {} if self.sums is None else {n: h.digest for n, h in self.sums.items() if n in self.there}
        place = self.target.join(SUMS_FILE)
        content = render({**kept, **sha256s}).encode()
        await self.retry.call(lambda: call(place.fs, "pipe_file", place.path, content))
        return clean_url(place.url)

    def _is_same(self, name: str, digests: Digests, there: Facts) -> bool:
        """By size, and by a hash that the store or SHA256SUMS keeps; where nobody vouches for the content: no."""
        if there.num_bytes != digests.num_bytes:
            return False
        if self.config.compare == "size":
            return True
        if there.known is not None:
            return there.known.digest == digests.md5
        listed = self.sums.of(name) if self.sums is not None else None
        if (there.version or "").strip('"') in (digests.md5, digests.parts_etag):  # as S3's ETags are, mostly
            return True
        return listed is not None and listed.digest == digests.sha256

    def _upload(self, place: Location, name: str, path: Path, digests: Digests) -> None:
        """Write the object in parts; it appears with the last call, or not at all."""
        self.display.start(name, digests.num_bytes, 0)
        options = {}
        if "abfs" in place.fs.protocol:  # Azure keeps an md5 only if it is told
            from azure.storage.blob import ContentSettings

            options["content_settings"] = ContentSettings(content_md5=bytearray.fromhex(digests.md5))
        sha256 = hashlib.sha256()
        stream = place.fs.open(place.path, "wb", block_size=PART_BYTES, **options)
        try:
            with path.open("rb") as file:
                while part := file.read(PART_BYTES):
                    self._wait(len(part))
                    sha256.update(part)
                    stream.write(part)
                    self.display.advance(name, len(part))
            if sha256.hexdigest() != digests.sha256:
                raise Unusable("changed", f"{path} was changed while it was read")
            stream.close()
        except BaseException:
            discard(stream)
            raise

    def _wait(self, num_bytes: int) -> None:
        with self._lock:
            seconds = self._pace.reserve(num_bytes, self.clock())
        if self.ending.wait(seconds):
            raise Interrupted


def digest(path: Path) -> Digests:
    """All hashes of a file, read once."""
    whole, md5, part_md5s, num_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), [], 0
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            whole.update(part)
            md5.update(part)
            part_md5s.append(hashlib.md5(part, usedforsecurity=False).digest())
            num_bytes += len(part)
    etag = f"{hashlib.md5(b''.join(part_md5s), usedforsecurity=False).hexdigest()}-{len(part_md5s)}"
    return Digests(num_bytes, whole.hexdigest(), md5.hexdigest(), etag)


def local_files(source: Path) -> dict[str, Path]:
    """What of a file or folder goes up: name in the target -> path. Hidden files stay, and so does SHA256SUMS."""
    if source.is_file():
        return {source.name: source}
    paths = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}
    return {name: path for name, path in paths.items() if not is_hidden(name) and name != SUMS_FILE}


def look_there(target: Location) -> tuple[dict[str, Facts], Checksums | None]:
    """What a target holds by name, and its SHA256SUMS. Raises UserError where there is no such bucket."""
    there = {name: facts_of(entry) for name, entry in target.find().items()}
    if not there and not _is_there(replace(target, path=target.path.strip("/").split("/", 1)[0])):
        raise UserError(
            f"{clean_url(target.url)}: there is no such bucket",
            expected="a bucket that exists, and credentials that may list, read and create objects there",
            fix="create it, or check the URL, the endpoint and the credentials",
        )
    if SUMS_FILE not in there:
        return there, None
    place = target.join(SUMS_FILE)
    return there, parse(place.read().decode(errors="replace"), clean_url(place.url))


def _is_there(bucket: Location) -> bool:
    """Whether a bucket exists; one that these credentials may not look at may be there all the same."""
    try:
        return bucket.info() is not None
    except UserError:
        return True
