"""What the checks look at: the files that git tracks, and of each Markdown page its links, headings, code and tables.

Reads; decides nothing. Parsed by markdown-it, which has GitHub's rules but for the anchors of headings.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token


@dataclass(frozen=True)
class Finding:
    """Something that is not as a page, a command or a value says; printed as `file:line: ...`."""

    path: str
    line: int
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found}\n  expected: {self.expected}\n  to do:    {self.fix}"


@dataclass(frozen=True)
class Code:
    """A code span (`kind` is None) or a code block (its language, empty if it has none), and the line it begins in."""

    line: int
    text: str
    kind: str | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table: its cells as they are written, and those of the table's head."""

    line: int
    head: list[str]
    cells: list[str]


@dataclass
class Page:
    """A Markdown file below the project's root."""

    path: str
    anchors: set[str] = field(default_factory=set)
    links: list[tuple[int, str]] = field(default_factory=list)
    """Line and target, of pictures too."""
    codes: list[Code] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


class Tree:
    """The tracked files below `root`, their folders, and the pages among them. `files` are paths with slashes."""

    def __init__(self, root: Path, files: list[str] | None = None) -> None:
        self.root = root
        self.files = frozenset(tracked(root) if files is None else files)
        self.folders = frozenset(folder for file in self.files for folder in _parents(file))
        self.tops = frozenset(file.split("/")[0] for file in self.files if "/" in file)
        """The folders right below the root."""
        self.pages = {file: read_page(root, file) for file in sorted(self.files) if file.endswith(".md")}

    def has(self, path: str) -> bool:
        """Is there such a file or folder?"""
        return path in self.files or (path.rstrip("/") or ".") in self.folders

    def text(self, path: str) -> str:
        """The text of a file."""
        return (self.root / path).read_text(encoding="utf-8")


def tracked(root: Path) -> list[str]:
    """Files that git tracks, as paths with slashes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    # One that was deleted and not yet committed is still listed.
    return [file for file in listed.split("\0") if file and (root / file).is_file()]


def _parents(file: str) -> Iterator[str]:
    while file:
        file = file.rpartition("/")[0]
        yield file or "."


def read_page(root: Path, path: str) -> Page:
    """Parses one page."""
    page = Page(path)
    tokens = MarkdownIt("commonmark").enable("table").parse((root / path).read_text(encoding="utf-8"))
    slugs: Counter[str] = Counter()
    head: list[str] = []
    cells: list[str] = []
    line = 1
    for number, token in enumerate(tokens):
        if token.map is not None:
            line = token.map[0] + 1
        match token.type:
            case "fence" | "code_block":
                # The first line of a fence is the fence.
                page.codes.append(Code(line + (token.type == "fence"), token.content, token.info.strip()))
            case "heading_open":
                page.anchors.add(anchor(_plain(tokens[number + 1]), slugs))
            case "tr_open":
                cells = []
            case "th_close" | "td_close":
                cells.append(tokens[number - 1].content)
            case "thead_close":
                head = cells
            case "tr_close" if cells is not head and tokens[number - 1].type == "td_close":
                page.rows.append(Row(line, head, cells))
            case "inline":
                _read_inline(token, line, page)
    return page


def _read_inline(token: Token, first: int, page: Page) -> None:
    line = _lines(token.content, first)
    for child in token.children or ():
        if child.type == "code_inline":
            page.codes.append(Code(line(child.content), child.content))
        elif child.type in ("link_open", "image"):
            target = str(child.attrs["href" if child.type == "link_open" else "src"])
            page.links.append((line(child.content or target), target))
        elif child.type == "text":
            line(child.content)


def _lines(source: str, first: int) -> Callable[[str], int]:
    """Gives the line of each piece of `source`, asked for in order; the parser itself keeps the paragraph's alone."""
    position = 0

    def line(piece: str) -> int:
        nonlocal position
        # A line break inside a code span is a blank to the parser.
        found = re.compile(re.escape(piece).replace("\\ ", r"\s")).search(source, position)
        start = found.start() if found else position
        position = found.end() if found else position
        return first + source.count("\n", 0, start)

    return line


def _plain(heading: Token) -> str:
    return "".join(child.content for child in heading.children or () if child.type in ("text", "code_inline"))


def anchor(heading: str, used: Counter[str]) -> str:
    """The name GitHub gives a heading: https://github.com/Flet/github-slugger; `used` counts those given before."""
    slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
    used[slug] += 1
    return slug if used[slug] == 1 else f"{slug}-{used[slug] - 1}"
