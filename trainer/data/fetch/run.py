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

from trainer.data.disk import full_disk_named
from trainer.data.fetch.config import FetchConfig
from trainer.data.fetch.display import Display
from trainer.data.fetch.download import Downloader
from trainer.data.fetch.landing import Landing, open_landing
from trainer.data.fetch.listing import Item, Wanted, expand
from trainer.data.fetch.names import check_names, is_wanted
from trainer.data.fetch.remote import Facts, Unusable, unusable
from trainer.data.fetch.report import Action, Outcome, Report
from trainer.data.fetch.retry import Retry
from trainer.data.fetch.tasks import allow_threads, together
from trainer.data.fetch.upload import Uploader, local_files, look_there
from trainer.data.fetch.web import Web
from trainer.data.remote import Location, locate
from trainer.errors import UserError
from trainer.storage_errors import Meaning, clean_url, meaning_of, one_line


def fetch(wanted: Wanted, output: str, config: FetchConfig, *, dry_run: bool = False) -> Report:
    """Bring files to `output`, a folder or a bucket's URL. Raises UserError for what nothing can be fetched with.

    Files that cannot be had are in the report, which also knows the exit code.
    """
    started = time.monotonic()
    target = None if "://" not in output else locate(output)
    if target is None or target.local is not None:
        folder = Path(output).expanduser() if target is None else Path(target.path)
        done = asyncio.run(_bring_down(wanted, folder, config, dry_run=dry_run))
    else:
        done = asyncio.run(_bring_up(wanted, target, config, dry_run=dry_run))
    return Report(
        target=clean_url(output),
        dry_run=dry_run,
        stopped=done.stopped,
        tolerant=config.on_error == "skip",
        seconds=round(time.monotonic() - started, 3),
        files=tuple(done.outcomes[name] for name in sorted(done.outcomes, key=done.order.__getitem__)),
        checksums=done.checksums,
    )


@dataclass
class _Done:
    """What became of the files so far."""

    order: dict[str, int]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    stopped: bool = False
    checksums: str | None = None


class _Task(NamedTuple):
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
    done: _Done
    unreached: int = 0
    """Files in a row that failed because their server could not be reached."""

    async def work(self, files: Sequence[_Task]) -> None:
        """Run the tasks of all files; stops at a failure unless it is to be skipped."""
        waiting = iter(files)
        try:
            await together(self._worker(waiting) for _ in range(min(self.config.streams, len(files))))
        except _Stop:
            self.done.stopped = True

    async def _worker(self, waiting: Iterator[_Task]) -> None:
        for name, url, run in waiting:
            try:
                self.done.outcomes[name] = await run()
                self.unreached = 0
            except UserError:
                raise
            except Exception as error:
                if _is_of_disk(error):
                    raise
                self._note(name, url, unusable(error))

    def _note(self, name: str, url: str, problem: Unusable) -> None:
        self.done.outcomes[name] = Outcome(
            name=name, url=url, action="failed", problem=problem.word, message=f"{url}: {problem}"
        )
        self.display.end(name, None)
        self.unreached = self.unreached + 1 if problem.word in ("unreachable", "busy") else 0
        # As many failures in a row as there are streams: what is down is not a file but the way to all of them.
        if self.config.on_error == "stop" or self.unreached >= max(3, self.config.streams):
            raise _Stop


async def _bring_down(wanted: Wanted, folder: Path, config: FetchConfig, *, dry_run: bool) -> _Done:
    allow_threads(2 * config.streams)
    retry = Retry(config.retry_seconds)
    async with Web(config) as web:
        items = await expand(wanted, config, web, retry)
        done = _Done({item.name: index for index, item in enumerate(items)})
        with Display("fetch", len(items)) as display:
            display.expect({item.name: item.facts.num_bytes for item in items if item.facts.num_bytes is not None})
            crew = _Crew(config, display, done)
            if dry_run:
                await crew.work([_Task(i.name, i.remote.url, partial(_would_fetch, i, folder, retry)) for i in items])
                return done
            with open_landing(folder) as landing:
                _check_room(items, landing)
                downloader = Downloader(config, landing, retry, display)
                await crew.work([_Task(i.name, i.remote.url, partial(downloader.fetch, i)) for i in items])
                if not done.stopped:
                    with full_disk_named(folder, needs="SHA256SUMS", fix="free space there and run again"):
                        done.checksums = str(landing.finish())
    return done


async def _would_fetch(item: Item, folder: Path, retry: Retry) -> Outcome:
    """What a fetch would do with a file, by its size alone."""
    facts = item.facts
    if facts.num_bytes is None:
        facts = await retry.call(item.remote.stat, item.remote.pace)
    path = folder / item.name
    same = path.is_file() and facts.num_bytes in (None, path.stat().st_size)
    action: Action = "skipped" if same else "replaced" if path.exists() else "fetched"
    return Outcome(name=item.name, url=item.remote.url, action=action, bytes=facts.num_bytes)


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


async def _bring_up(wanted: Wanted, target: Location, config: FetchConfig, *, dry_run: bool) -> _Done:
    if not {"s3", "gs", "abfs", "memory"} & {*_protocols(target)}:
        raise UserError(
            f"{clean_url(target.url)}: files cannot be brought there",
            expected="a folder, or a URL of s3://, gs:// or az://",
            fix="give another --output; for the Hugging Face Hub use `hf upload`",
        )
    files = _uploads(wanted, config)
    allow_threads(2 * config.streams)
    retry, done = Retry(config.retry_seconds), _Done({name: index for index, name in enumerate(files)})
    try:
        there, sums = await look_there(target, retry)
    except Exception as error:
        if meaning_of(error) not in (Meaning.MISSING, Meaning.REFUSED):
            raise unusable(error, f" (listing {clean_url(target.url)})") from error
        raise UserError(
            f"{clean_url(target.url)}: {one_line(error)}",
            expected="a bucket that exists, and credentials that may list, read and create objects there",
            fix="create it, or check the URL, the endpoint and the credentials",
        ) from error
    with Display("upload", len(files)) as display:
        display.expect({name: path.stat().st_size for name, path in files.items()})
        crew = _Crew(config, display, done)
        if dry_run:
            await crew.work(
                [_Task(n, clean_url(target.join(n).url), partial(_would_send, n, files[n], there)) for n in files]
            )
            return done
        uploader = Uploader(config, target, retry, display, there, sums)
        await crew.work([_Task(n, clean_url(target.join(n).url), partial(uploader.send, n, files[n])) for n in files])
        if not done.stopped:
            sha256s = {o.name: o.sha256 for o in done.outcomes.values() if o.sha256 is not None}
            done.checksums = await uploader.finish(sha256s)
    return done


async def _would_send(name: str, path: Path, there: dict[str, Facts]) -> Outcome:
    size = path.stat().st_size
    facts = there.get(name)
    action: Action = "fetched" if facts is None else "skipped" if facts.num_bytes == size else "replaced"
    return Outcome(name=name, url=str(path), action=action, bytes=size)


def _uploads(wanted: Wanted, config: FetchConfig) -> dict[str, Path]:
    """The local files to bring up. Raises UserError for sources that are not on this machine."""
    if wanted.lists or wanted.checksums:
        raise UserError(
            "--list and --checksums belong to a fetch to a folder", expected="local folders", fix="drop them"
        )
    files: dict[str, Path] = {}
    names: list[str] = []
    for source in wanted.sources:
        path = locate(source).local
        if path is None or not path.exists():
            raise UserError(
                f"{clean_url(source)} is {'not on this machine' if path is None else 'not there'}",
                expected="a local file or folder: what lies in one bucket comes to another by way of a folder",
                fix="fetch it to a folder first, or correct the path",
            )
        found = {name: file for name, file in local_files(path).items() if is_wanted(name, config)}
        names += found
        files |= found
    if not files:
        raise UserError(
            "nothing to bring up", expected="files that are not hidden", fix="correct the source or --include"
        )
    check_names(names)
    return files


def _protocols(place: Location) -> tuple[str, ...]:
    protocol = place.fs.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _is_of_disk(error: Exception) -> bool:
    """Whether it is the local disk that refuses: then no other file fares better."""
    named = isinstance(error, OSError) and error.filename is not None
    return named and meaning_of(error) in (Meaning.LASTING, Meaning.REFUSED)
