"""Bringing one file: is it here already, receive it in pieces, check it, give it its name.

`run` makes one `Downloader` for a fetch and calls `fetch` for each file, several at a time. All pieces of all files
share one number of streams, one pace of bytes, and per web server one pace of requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from functools import partial as partial_call
from pathlib import Path

from trainer.data.fetch.checksums import Hash, hash_file
from trainer.data.fetch.config import MIB, FetchConfig
from trainer.data.fetch.landing import Landing, Stored
from trainer.data.fetch.listing import Item
from trainer.data.fetch.pace import Pace
from trainer.data.fetch.partial import Partial
from trainer.data.fetch.remote import Answer, Changed, Cut, Facts, Unusable, unusable
from trainer.data.fetch.report import Action, Outcome
from trainer.data.fetch.retry import Retry
from trainer.data.fetch.tasks import in_thread, together
from trainer.data.progress import Display
from trainer.durable import full_disk_named
from trainer.errors import UserError
from trainer.storage_errors import Meaning, meaning_of

# The first request of a file, which also tells its size: small, so that the rest can soon come in parallel.
FIRST_BYTES = 4 * MIB
# How often a file that changes while it is read is begun again.
STARTS = 4


@dataclass
class Job:
    """One file under way."""

    item: Item
    partial: Partial
    single: bool = False
    """In one request from beginning to end, because parts cannot be told to belong together."""

    @property
    def version(self) -> str | None:
        return self.partial.facts.version if self.partial.facts is not None else None

    @property
    def can_resume(self) -> bool:
        """Whether bytes from two requests may be joined: the server tells versions apart, or a hash will."""
        return self.version is not None or self.item.expected is not None


@dataclass
class Piece:
    """Bytes [position, stop) to receive; stop None: to the end."""

    position: int
    stop: int | None
    reached: int = 0
    """How far it came at best: what counts as progress where a server makes us begin again."""
    done: bool = False


@dataclass
class Downloader:
    """What all files of a fetch share."""

    config: FetchConfig
    landing: Landing
    retry: Retry
    display: Display
    clock: Callable[[], float] = time.monotonic
    streams: asyncio.Semaphore = field(init=False)
    bytes_pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.streams = asyncio.Semaphore(self.config.streams)
        self.bytes_pace = Pace(self.config.bytes_per_second)

    async def fetch(self, item: Item) -> Outcome:
        """Bring a file, or find that it is here. Raises Unusable, the client's error, or UserError for a full disk."""
        needs = f"{item.name}, {item.facts.num_bytes or 'an unknown number of'} bytes"
        with full_disk_named(self.landing.folder, needs=needs, fix="free space there and run again"):
            here = await self._find_here(item)
            if here is not None:
                action: Action = "skipped"
            else:
                action = "replaced" if self.landing.path(item.name).exists() else "fetched"
                here = await self._bring(item)
            self.landing.note(here)
        self.display.end(item.name, here.bytes)
        return Outcome(name=item.name, url=item.remote.url, action=action, bytes=here.bytes, sha256=here.sha256)

    async def _bring(self, item: Item) -> Stored:
        """Receive a file and give it its name."""
        target = self.landing.path(item.name)
        _make_folder(target.parent)
        with closing(Partial(self.landing.parts, item.name, item.remote.url, self.clock)) as partial:
            try:
                facts, sha256 = await self._receive_checked(Job(item, partial))
            except BaseException:
                partial.save()
                raise
            await in_thread(lambda: partial.complete(target, facts.modified))
        return _stored(item, facts, sha256)

    async def _find_here(self, item: Item) -> Stored | None:
        """What is here already of the very content that the source has; None: it must come."""
        path = self.landing.path(item.name)
        if path.is_dir():
            raise UserError(f"{path} is a folder", expected="room for a file", fix="give another --output")
        if not path.is_file():
            return None
        facts = item.facts
        if facts.version is None and item.expected is None:
            facts = await self.retry.call(item.remote.stat, item.remote.pace)
        size, before = path.stat().st_size, self.landing.stored(item.name)
        if facts.num_bytes is not None and facts.num_bytes != size:
            return None
        changed = before is not None and None not in (before.version, facts.version) and before.version != facts.version
        by_size = self.config.compare == "size" and not changed and facts.num_bytes is not None
        if by_size and before is not None:
            return before
        expected = item.expected
        digests = await asyncio.to_thread(hash_file, path, _algorithms(expected))
        found = _stored(item, replace(facts, num_bytes=size), digests["sha256"])
        if by_size:
            return found
        if expected is not None:
            return found if digests[expected.algorithm] == expected.digest else None
        if changed or facts.num_bytes is None:
            return None
        return found if before is None or before.sha256 == found.sha256 else None

    async def _receive_checked(self, job: Job) -> tuple[Facts, str]:
        """Receive a file until its size and hash are right; begins again where it is not one whole version."""
        problem: Unusable | None = None
        for start in range(STARTS):
            if start > 0:
                job.partial.restart()
                # A server whose answers differ from one request to the next is asked for everything at once.
                job.single = True
            try:
                facts = await self._receive(job)
                await self.retry.call(partial_call(job.item.remote.confirm, facts.version), job.item.remote.pace)
            except Changed as error:
                problem = Unusable("changed", f"{error}; it changes faster than it comes, {start + 1} times")
                continue
            expected = job.item.expected
            digests = await asyncio.to_thread(hash_file, job.partial.path, _algorithms(expected))
            if expected is None or digests[expected.algorithm] == expected.digest:
                return facts, digests["sha256"]
            wrong = f"{expected.algorithm} {digests[expected.algorithm]} of {facts.num_bytes} bytes"
            if problem is not None and problem.word == "checksum":
                break
            problem = Unusable("checksum", f"{wrong}, expected {expected.digest}, twice")
        job.partial.restart()
        assert problem is not None
        raise problem

    async def _receive(self, job: Job) -> Facts:
        """Get all bytes that are missing."""
        partial = job.partial
        if partial.facts is not None and (partial.facts.num_bytes is None or not job.can_resume):
            partial.restart()
        self.display.start(job.item.name, job.item.facts.num_bytes, partial.num_bytes)
        if partial.facts is None:
            await self._piece(job, Piece(0, None if job.single else FIRST_BYTES))
        facts = partial.facts
        assert facts is not None, "the first answer brings facts"
        assert facts.num_bytes is not None, "the first answer tells the size, or it was the whole file"
        pieces = [Piece(*piece) for piece in partial.missing(facts.num_bytes, self.config.piece_bytes)]
        if pieces and (job.single or not job.can_resume):
            job.single = True
            await self._piece(job, Piece(pieces[0].position if job.can_resume else 0, None))
        elif pieces:
            pieces.reverse()
            await together(self._pieces(job, pieces) for _ in range(min(self.config.streams, len(pieces))))
        return partial.facts or facts

    async def _pieces(self, job: Job, waiting: list[Piece]) -> None:
        while waiting:
            await self._piece(job, waiting.pop())

    async def _piece(self, job: Job, piece: Piece) -> None:
        """Receive a piece. Every byte that comes renews the budget of tries."""
        async with self.streams:
            try:
                while not piece.done:
                    async for attempt in self.retry.context(job.item.remote.pace):
                        with attempt:
                            await self._once(job, piece)
            except Changed:
                raise
            except Exception as error:
                if isinstance(error, OSError) and meaning_of(error) is Meaning.LASTING:
                    raise  # of the disk
                raise unusable(error, f", at byte {piece.position}") from error

    async def _once(self, job: Job, piece: Piece) -> None:
        """One request. An error after some progress only leaves the piece undone."""
        partial = job.partial
        if piece.position == piece.stop:
            piece.done = True  # the last byte came, and then the connection broke
            return
        if piece.position > 0 and not job.can_resume:
            piece.position = 0
            partial.restart()
        async with job.item.remote.open(piece.position, piece.stop, job.version) as answer:
            self._compare(job, piece, answer)
            try:
                async with aclosing(answer.chunks) as chunks:
                    async for chunk in chunks:
                        await asyncio.sleep(self.bytes_pace.reserve(len(chunk), self.clock()))
                        partial.write(piece.position, chunk)
                        if partial.is_due():
                            await in_thread(partial.save)
                        piece.position += len(chunk)
                        self.display.advance(job.item.name, len(chunk))
                _check_end(piece, answer)
            except Exception as error:
                if piece.position <= piece.reached or self.retry.heals(error) is False:
                    raise
                piece.reached = piece.position
                return
        piece.done = True
        if not answer.ranged:
            partial.begin(replace(answer.facts, num_bytes=piece.position))

    def _compare(self, job: Job, piece: Piece, answer: Answer) -> None:
        """Take up the first answer's facts; later ones must be of the same file."""
        partial = job.partial
        if partial.facts is not None and answer.ranged:
            if partial.facts.num_bytes != answer.facts.num_bytes:
                raise Changed(f"{answer.facts.num_bytes} bytes instead of {partial.facts.num_bytes}")
            return
        if partial.facts is not None and not job.single:
            raise Changed("a request for a part was answered with the whole")
        if not answer.ends and job.item.expected is None:
            raise Unusable(
                "truncated",
                "the server tells no length, so that a cut would look like the end; give its hash (--checksums)",
            )
        if partial.num_bytes:
            partial.restart()
        if not answer.ranged:
            job.single, piece.stop = True, None
        piece.position = answer.start
        self.display.start(job.item.name, answer.facts.num_bytes, 0)
        partial.begin(answer.facts)


def _check_end(piece: Piece, answer: Answer) -> None:
    """Raise Cut for an answer that covers less than was asked for: a server may do so, and be asked for the rest."""
    total = answer.facts.num_bytes
    if answer.ranged and total is not None:
        end = total if piece.stop is None else min(piece.stop, total)
        if piece.position < end:
            raise Cut(f"ended at byte {piece.position}, {end} were asked for")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{error.filename} is a file",
            expected=f"room for the folder {folder}",
            fix="move it, or give another --output",
        ) from error


def _algorithms(expected: Hash | None) -> set[str]:
    return {"sha256"} if expected is None else {"sha256", expected.algorithm}


def _stored(item: Item, facts: Facts, sha256: str) -> Stored:
    return Stored(name=item.name, url=item.remote.url, bytes=facts.num_bytes, sha256=sha256, version=facts.version)
