"""`gpt-run data fetch` as a function: list, compare, transfer, write SHA256SUMS, report.

`trainer.cli.fetch` calls `fetch`. Sources on other machines come down to a folder; local ones go up to a bucket.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from trainer.data.fetch.config import FetchConfig
from trainer.data.fetch.download import Downloader
from trainer.data.fetch.landing import Landing, open_landing
from trainer.data.fetch.listing import Item, Wanted, expand
from trainer.data.fetch.names import check_names, is_wanted
from trainer.data.fetch.remote import Facts, unusable
from trainer.data.fetch.report import Action, Outcome, Report
from trainer.data.fetch.retry import Retry
from trainer.data.fetch.tasks import allow_threads, together
from trainer.data.fetch.upload import Uploader, local_files, look_there
from trainer.data.fetch.web import Web
from trainer.data.progress import Display
from trainer.data.remote import Location, locate
from trainer.durable import full_disk_named
from trainer.errors import UserError
from trainer.storage_errors import EXTRAS, Meaning, clean_url, meaning_of


def fetch(wanted: Wanted, output: str, config: FetchConfig, *, dry_run: bool = False) -> Report:
    """Bring files to `output`, a folder or a bucket's URL. Raises UserError for what nothing can be fetched with.

    Files that cannot be had are in the report, which also knows the exit code.
    """
    started = time.monotonic()
    target = locate(output)
    folder = target.local
    if folder is None:
        crew = asyncio.run(_bring_up(wanted, target, config, dry_run))
    else:
        crew = asyncio.run(_bring_down(wanted, folder, config, dry_run))
    return Report(
        target=clean_url(output),
        dry_run=dry_run,
        stopped=crew.stopped,
        tolerant=config.on_error == "skip",
        seconds=round(time.monotonic() - started, 3),
        files=tuple(crew.outcomes[job.name] for job in crew.jobs if job.name in crew.outcomes),
        checksums=crew.checksums,
    )


async def _bring_down(wanted: Wanted, folder: Path, config: FetchConfig, dry_run: bool) -> _Crew:
    allow_threads(2 * config.streams)
    retry = Retry(config.retry_seconds)
    async with Web(config) as web:
        items = await expand(wanted, config, web, retry)
        with Display("fetch", len(items)) as display:
            display.expect({item.name: item.facts.num_bytes for item in items if item.facts.num_bytes is not None})
            if dry_run:
                jobs = [_Job(item.name, item.remote.url, partial(_would_fetch, item, folder, retry)) for item in items]
                return await _Crew(config, display, jobs).work()
            with open_landing(folder) as landing:
                _check_room(items, landing)
                downloader = Downloader(config, landing, retry, display)
                jobs = [_Job(item.name, item.remote.url, partial(downloader.fetch, item)) for item in items]
                crew = await _Crew(config, display, jobs).work()
                if not crew.stopped:
                    with full_disk_named(folder, needs="SHA256SUMS", fix="free space there and run again"):
                        crew.checksums = str(landing.finish())
                return crew


async def _bring_up(wanted: Wanted, target: Location, config: FetchConfig, dry_run: bool) -> _Crew:
    if target.url.partition("://")[0] not in {*EXTRAS, "memory"}:
        raise UserError(
            f"{clean_url(target.url)}: files cannot be brought there",
            expected="a folder, or a URL of s3://, gs:// or az://",
            fix="give another --output; for the Hugging Face Hub use `hf upload`",
        )
    files = _local_files(wanted, config)
    allow_threads(2 * config.streams)
    try:
        there, sums = await asyncio.to_thread(look_there, target)
    except UserError:
        raise
    except Exception as error:
        raise unusable(error, f" (listing {clean_url(target.url)})") from error
    with Display("upload", len(files)) as display:
        display.expect({name: path.stat().st_size for name, path in files.items()})
        uploader = Uploader(config, target, Retry(config.retry_seconds), display, there, sums)
        work = partial(_would_send, there=there) if dry_run else uploader.send
        jobs = [_Job(name, clean_url(target.join(name).url), partial(work, name, path)) for name, path in files.items()]
        crew = await _Crew(config, display, jobs).work()
        if not dry_run and not crew.stopped:
            sha256s = {name: outcome.sha256 for name, outcome in crew.outcomes.items() if outcome.sha256 is not None}
            crew.checksums = await uploader.finish(sha256s)
        return crew


class _Job(NamedTuple):
    """The work on one file."""

    name: str
    url: str
    run: Callable[[], Awaitable[Outcome]]


class _Stop(Exception):
    """A file failed, and the fetch is to end."""


@dataclass
class _Crew:
    """Works through the files, several at a time, and decides what a failure means for the rest."""

    config: FetchConfig
    display: Display
    jobs: Sequence[_Job]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    stopped: bool = False
    checksums: str | None = None
    unreached: int = 0
    """Files in a row that failed because their server could not be reached."""

    async def work(self) -> _Crew:
        """Do all jobs; stops at a failure unless it is to be skipped."""
        waiting = iter(self.jobs)
        try:
            await together(self._worker(waiting) for _ in range(min(self.config.streams, len(self.jobs))))
        except _Stop:
            self.stopped = True
        return self

    async def _worker(self, waiting: Iterator[_Job]) -> None:
        for job in waiting:
            try:
                self.outcomes[job.name] = await job.run()
                self.unreached = 0
            except UserError:
                raise
            except Exception as error:
                of_disk = isinstance(error, OSError) and error.filename is not None
                if of_disk and meaning_of(error) in (Meaning.LASTING, Meaning.REFUSED):
                    raise  # no other file fares better
                self._note(job, error)

    def _note(self, job: _Job, error: Exception) -> None:
        problem = unusable(error)
        self.outcomes[job.name] = Outcome(
            name=job.name, url=job.url, action="failed", problem=problem.word, message=f"{job.url}: {problem}"
        )
        self.display.end(job.name, None)
        self.unreached = self.unreached + 1 if problem.word in ("unreachable", "busy") else 0
        # As many failures in a row as there are streams: what is down is not a file but the way to all of them.
        if self.config.on_error == "stop" or self.unreached >= max(3, self.config.streams):
            raise _Stop


async def _would_fetch(item: Item, folder: Path, retry: Retry) -> Outcome:
    """What a fetch would do with a file, by its size alone."""
    facts = item.facts
    if facts.num_bytes is None:
        facts = await retry.call(item.remote.stat, item.remote.pace)
    path = folder / item.name
    same = path.is_file() and facts.num_bytes in (None, path.stat().st_size)
    action: Action = "skipped" if same else "replaced" if path.exists() else "fetched"
    return Outcome(name=item.name, url=item.remote.url, action=action, bytes=facts.num_bytes)


async def _would_send(name: str, path: Path, *, there: dict[str, Facts]) -> Outcome:
    size, facts = path.stat().st_size, there.get(name)
    action: Action = "fetched" if facts is None else "skipped" if facts.num_bytes == size else "replaced"
    return Outcome(name=name, url=str(path), action=action, bytes=size)


def _check_room(items: Sequence[Item], landing: Landing) -> None:
    """Raise UserError where the files that are known to come cannot fit."""
    coming = sum(item.facts.num_bytes or 0 for item in items if not landing.path(item.name).exists())
    coming -= sum(part.stat().st_blocks * 512 for part in landing.parts.glob("*.part"))
    free = shutil.disk_usage(landing.folder).free
    if coming > free:
        raise UserError(
            f"{landing.folder}: {coming:,} bytes are to come, its disk has {free:,} bytes free",
            expected="room for all files",
            fix="free space there, give another --output, or fetch less with --include",
        )


def _local_files(wanted: Wanted, config: FetchConfig) -> dict[str, Path]:
    """The local files to bring up. Raises UserError for sources that are not on this machine."""
    if wanted.lists or wanted.checksums:
        raise UserError(
            "--list and --checksums belong to a fetch to a folder", expected="local folders", fix="drop them"
        )
    found: list[tuple[str, Path]] = []
    for source in wanted.sources:
        path = locate(source).local
        if path is None or not path.exists():
            raise UserError(
                f"{clean_url(source)} is {'not on this machine' if path is None else 'not there'}",
                expected="a local file or folder: what lies in one bucket comes to another by way of a folder",
                fix="fetch it to a folder first, or correct the path",
            )
        found += [(name, file) for name, file in local_files(path).items() if is_wanted(name, config)]
    if not found:
        raise UserError(
            "nothing to bring up", expected="files that are not hidden", fix="correct the source or --include"
        )
    check_names(name for name, _ in found)
    return dict(found)
