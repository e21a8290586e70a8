"""Dead links: targets of links, anchors, and files that code names, all against what git tracks. No network."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import shlex
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from docs.check.pages import Code, Finding, Page, Tree
from trainer.complaints import nearest

# `docs/runs/small/NAME.yaml` stands for any of them.
_PLACEHOLDER = re.compile(r"(?:^|[/-])(?!README|LICENSE)[A-Z][A-Z_]+(?=$|[/.-])")
_PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)+/?|[\w.-]+/")


def check_links(tree: Tree) -> Iterator[Finding]:
    """Links that lead nowhere, and files named in code that are not there."""
    for page in tree.pages.values():
        for line, target in page.links:
            yield from _check_link(tree, page, line, target)
        for code in page.codes:
            yield from _check_paths(tree, page, code)


def _check_link(tree: Tree, page: Page, line: int, target: str) -> Iterator[Finding]:
    url = urlsplit(target)
    if url.scheme or url.netloc:
        if url.scheme not in ("https", "http", "mailto") or (url.scheme != "mailto" and "." not in url.netloc):
            yield Finding(page.path, line, f"link to {target}", "https://HOST/...", "correct the address")
        return
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page.path), unquote(url.path)))
    if not url.path:
        path = page.path
    if not tree.has(path):
        yield Finding(
            page.path,
            line,
            f"link to {target}, and {path} is not tracked{nearest(path, tree.files)}",
            "a file or folder of the repository, relative to the page",
            "correct the link, or `git add` the file",
        )
    elif url.fragment and path in tree.pages and url.fragment not in tree.pages[path].anchors:
        anchors = tree.pages[path].anchors
        yield Finding(
            page.path,
            line,
            f"link to {target}, and {path} has no heading of that name{nearest(url.fragment, anchors)}",
            "the words of a heading in lower case, joined by hyphens",
            "correct what follows the #",
        )


def _check_paths(tree: Tree, page: Page, code: Code) -> Iterator[Finding]:
    # Code of languages names files of the reader's.
    if code.kind not in (None, "", "sh", "text"):
        return
    for number, row in enumerate(code.text.splitlines()):
        for word in _words(row):
            path = word.lstrip("@").split("::")[0]
            if path.split("/")[0] not in tree.tops or not _PATH.fullmatch(path) or _exists(tree, page, path):
                continue
            if not _PLACEHOLDER.search(path):
                yield Finding(
                    page.path,
                    code.line + number,
                    f"{path} is named, and not tracked{nearest(path, tree.files)}",
                    "a file or folder of the repository",
                    "correct the name, or `git add` the file",
                )


def _words(row: str) -> list[str]:
    try:
        words = shlex.split(row)
    except ValueError:  # prose with an apostrophe
        words = row.split()
    return [word.rpartition("=")[2].rstrip(",:;.") for word in words]


def _exists(tree: Tree, page: Page, path: str) -> bool:
    beside = posixpath.join(posixpath.dirname(page.path), path)
    if "*" in path:
        return any(fnmatch.fnmatchcase(file, path) for file in tree.files)
    return tree.has(path) or tree.has(beside)
