"""Names under which files are stored: paths with forward slashes, relative to the target. Pure; `listing` calls it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from trainer.data.fetch.config import FetchConfig
from trainer.errors import UserError
from trainer.paths import stays_inside

# Kept for us in the target; see `landing`.
OWN_FOLDER = ".fetch"


def check_names(names: Iterable[str]) -> None:
    """Raise UserError for names that lead out of the target, that collide, or that are ours."""
    seen: set[str] = set()
    folders: set[str] = set()
    for name in names:
        parts = name.split("/")
        if not stays_inside(name) or parts[0] == OWN_FOLDER:
            raise _bad_name(name, "cannot be stored under its name")
        if name in seen:
            raise _bad_name(name, "is there twice")
        seen.add(name)
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for name in sorted(seen & folders):
        raise _bad_name(name, "is a file and a folder")


def is_wanted(name: str, config: FetchConfig) -> bool:
    """Whether the patterns of `include` and `exclude` let a file in."""
    taken = not config.include or any(fnmatchcase(name, pattern) for pattern in config.include)
    return taken and not any(fnmatchcase(name, pattern) for pattern in config.exclude)


def last_part(url: str) -> str:
    """A URL's file name, without escapes and query."""
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1]


def links(html: str, url: str) -> list[str]:
    """URLs that the page at `url` links to, without those that sort it anew (`?C=M;O=D`) or jump inside it."""
    anchors = _Anchors()
    anchors.feed(html)
    found = (urljoin(url, target) for target in anchors.targets)
    return [link for link in found if "?" not in link and "#" not in link]


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if tag == "a" and target:
            self.targets.append(target)


def _bad_name(name: str, found: str) -> UserError:
    return UserError(
        f"{name!r} {found}",
        expected="files with paths of their own below the target",
        fix="leave it out (--exclude), or give it a name in a list: URL NAME",
    )
