"""From what a user names to the list of files: URLs, folders, lists of URLs; names to store them under; known hashes.

A file is stored under its path below the folder that was named. `run` calls `expand`.
"""

from __future__ import annotations

import asyncio
import gzip
import io
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import unquote, urlsplit

from trainer.data.fetch.checksums import SUMS_FILE, Checksums, Hash, parse
from trainer.data.fetch.config import FetchConfig
from trainer.data.fetch.hosts import Robots, check_host, mirrored
from trainer.data.fetch.hub import list_hub
from trainer.data.fetch.names import check_names, is_wanted, last_part, links
from trainer.data.fetch.objects import ObjectFile, facts_of
from trainer.data.fetch.remote import Facts, RemoteFile, Unusable, unusable
from trainer.data.fetch.retry import Retry
from trainer.data.fetch.web import PAGE_BYTES, Web, WebFile
from trainer.data.remote import is_hidden, locate
from trainer.errors import UserError
from trainer.storage_errors import Meaning, clean_url, meaning_of, one_line

_MAX_DEPTH = 32


@dataclass(frozen=True)
class Item:
    """One file to fetch."""

    name: str
    remote: RemoteFile
    facts: Facts
    """What a listing said; the rest is asked for when it is needed."""
    expected: Hash | None = None
    """The hash that the content must have."""


@dataclass(frozen=True)
class Wanted:
    """What a user asks for."""

    sources: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    """Files or URLs of lists: a URL, or a path below `base`, on each line, with a name after it if need be."""
    base: str | None = None
    checksums: str | None = None


async def expand(wanted: Wanted, config: FetchConfig, web: Web, retry: Retry) -> list[Item]:
    """All files, in a fixed order. Raises UserError for what cannot be listed, and for names that cannot be stored."""
    lister = _Lister(config, web, retry, Robots(web, retry, config.user_agent))
    given = parse(await lister.read_text(wanted.checksums), wanted.checksums) if wanted.checksums else None
    items: list[Item] = []
    for source in wanted.sources:
        items += await lister.source(source, given)
    for listed in wanted.lists:
        items += _with_hashes(await lister.list_file(listed, wanted.base), given)
    items = [item for item in items if is_wanted(item.name, config)]
    if not items:
        raise UserError(
            f"nothing to fetch at {', '.join((*wanted.sources, *wanted.lists)) or 'no source'}",
            expected="a file, a folder with files, or a list of URLs",
            fix="correct the sources, or --include and --exclude",
        )
    check_names(item.name for item in items)
    return items


@dataclass(frozen=True)
class _Lister:
    config: FetchConfig
    web: Web
    retry: Retry
    robots: Robots

    async def source(self, url: str, given: Checksums | None) -> list[Item]:
        """The files of one source. The SHA256SUMS of a folder is used, and not fetched: the target gets its own."""
        try:
            items = await self._items(url)
        except (UserError, Unusable) as error:
            raise error if isinstance(error, UserError) else _unlistable(url, str(error)) from error
        except Exception as error:
            meaning = meaning_of(error)
            if meaning in (Meaning.MISSING, Meaning.REFUSED):
                raise _unlistable(url, one_line(error)) from error
            raise unusable(error, f" (listing {clean_url(url)})") from error
        sums = next((item for item in items if item.name == SUMS_FILE and len(items) > 1), None)
        if sums is not None:
            items.remove(sums)
            if given is None:
                content = await self.retry.call(lambda: _content(sums.remote), sums.remote.pace)
                given = parse(content.decode(errors="replace"), sums.remote.url)
        return _with_hashes(items, given)

    async def list_file(self, url: str, base: str | None) -> list[Item]:
        """The files that a list names."""
        items = []
        for number, line in enumerate((await self.read_text(url)).splitlines(), 1):
            words = line.split(maxsplit=1)
            if not words or words[0].startswith("#"):
                continue
            address = words[0]
            if "://" not in address and base is None:
                raise UserError(
                    f"{clean_url(url)}, line {number}: {address!r} is a path",
                    expected="a URL on each line, or paths and the URL that they are below",
                    fix="add --base URL",
                )
            below = address if "://" not in address else None
            if base is not None:
                root = base.rstrip("/") + "/"
                below = address.removeprefix(root) if address.startswith(root) else below
                address = address if "://" in address else root + address.lstrip("/")
            name = words[1].strip() if len(words) > 1 else unquote(below) if below else last_part(address)
            items.append(self._single(address, name))
        return items

    async def read_text(self, url: str) -> str:
        """A small text file anywhere, unpacked if it is gzip."""
        if _is_web(url):
            address = self._checked(url)
            try:
                content = (await self.retry.call(lambda: self.web.page(address), self.web.pace(address))).content
            except Exception as error:
                if meaning_of(error) is Meaning.PASSING:
                    raise unusable(error, f" (reading {clean_url(url)})") from error
                raise _unlistable(url, one_line(error)) from error
        else:
            try:
                content = await asyncio.to_thread(locate(url).read, 0, PAGE_BYTES + 1)
            except FileNotFoundError as error:
                raise _unlistable(url, "no such file") from error
        try:
            if content.startswith(b"\x1f\x8b"):
                # A thousand times its size and more, where somebody means harm: read no further than a list can be.
                content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(PAGE_BYTES + 1)
            _check_length(url, len(content))
            return content.decode()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise _unlistable(url, f"not a text: {error}") from error

    async def _items(self, url: str) -> list[Item]:
        if _is_web(url):
            address = self._checked(url)
            if not urlsplit(address).path.endswith("/"):
                return [self._single(address, last_part(address))]
            return await self._follow(address)
        if url.startswith("hf://"):
            found = await self.retry.call(lambda: asyncio.to_thread(list_hub, url, self.web))
            return [Item(name, file, facts) for name, file, facts in found]
        return await self._listed(url)

    async def _listed(self, url: str) -> list[Item]:
        """A file, or all files of a folder, of a bucket or disk; hidden ones of a disk are left out."""
        place = locate(url)
        place.fs.invalidate_cache()
        info = await asyncio.to_thread(place.info)
        if info is None:
            raise _unlistable(url, "nothing is there")
        if info["type"] == "file":
            found = {place.name: (place, facts_of(info))}
        else:
            below = await asyncio.to_thread(place.find)
            found = {name: (place.join(name), facts_of(entry)) for name, entry in below.items()}
        return [
            Item(name, ObjectFile(file, facts), facts)
            for name, (file, facts) in found.items()
            if place.local is None or not is_hidden(name)
        ]

    async def _follow(self, root: str) -> list[Item]:
        """All files that the pages of a web folder link to, below that folder."""
        first: str | None = None
        files: dict[str, Item] = {}
        waiting, seen = [(root, 0)], {root}
        while waiting:
            address, depth = waiting.pop()
            await self.robots.check(address)
            page = await self.retry.call(partial(self.web.page, address), self.web.pace(address))
            if page.media_type != "text/html":
                raise _unlistable(address, f"a page of type {page.media_type}")
            first = first or page.url
            for link in links(page.content.decode(errors="replace"), page.url):
                if not link.startswith(first):
                    continue
                if link.endswith("/"):
                    if link not in seen and depth < _MAX_DEPTH:
                        seen.add(link)
                        waiting.append((link, depth + 1))
                elif link not in files:
                    files[link] = self._single(link, unquote(link[len(first) :]))
        return [files[link] for link in sorted(files)]

    def _single(self, url: str, name: str) -> Item:
        if _is_web(url):
            return Item(name, WebFile(self.web, self._checked(url)), Facts())
        return Item(name, ObjectFile(locate(url)), Facts())

    def _checked(self, url: str) -> str:
        address = mirrored(url, self.config.mirrors)
        check_host(address, self.config)
        return address


async def _content(file: RemoteFile) -> bytes:
    content = bytearray()
    async with file.open(0, None, None) as answer:
        async for chunk in answer.chunks:
            content += chunk
            _check_length(file.url, len(content))
    return bytes(content)


def _check_length(url: str, num_bytes: int) -> None:
    if num_bytes > PAGE_BYTES:
        raise _unlistable(url, f"more than {PAGE_BYTES:,} bytes: not a list of files")


def _with_hashes(items: list[Item], given: Checksums | None) -> list[Item]:
    return [
        replace(item, expected=(given.of(item.name) if given is not None else None) or item.facts.known)
        for item in items
    ]


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _unlistable(url: str, found: str) -> UserError:
    return UserError(
        f"{clean_url(url)}: {found}",
        expected="a file or a folder that can be listed and read",
        fix="check the URL, the credentials, and that a web folder's URL ends with /",
    )
