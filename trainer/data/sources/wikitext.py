"""Wikitext to plain text: what a reader of the article sees, without templates, tables, files and footnotes.

A few linear passes over the text instead of a syntax tree: eight times as fast as the best library, with the same words
(docs/decisions/sources.md; a test compares the two on real articles). Used by `wikipedia`.
"""

from __future__ import annotations

import html
import re

# Links to these show no words in the running text. A dump names its own language's words for them.
HIDDEN_NAMESPACES = frozenset({"file", "image", "category", "media"})

# Elements that go with all they hold, and elements whose content is no markup.
_DROPPED = frozenset(
    {"ref", "references", "table", "gallery", "timeline", "imagemap", "score", "graph", "hiero", "mapframe", "maplink"}
    | {"templatedata", "templatestyles", "style", "script", "inputbox", "categorytree", "indicator", "noinclude"}
)
_LITERAL = frozenset({"nowiki", "pre", "math", "chem", "ce", "syntaxhighlight", "source"})

# The text is given a line break in front, so that "at the start of a line" is "behind a line break".
_BORDER = re.compile(
    r"\{\{+|\}\}+|\n[ \t:*#;]*\{\||\n[ \t]*\|\}(?!\})|<!--|<(?P<close>/?)(?P<name>[a-zA-Z]+)(?P<rest>[^<>]*)>"
)
_MARKUP_CHARACTERS = str.maketrans({sign: f"&#{ord(sign)};" for sign in "[]{}|'<>=*#:;_-"})

# Innermost links; single brackets may stand in their captions.
_LINK = re.compile(r"\[\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\]")
_WEB_LINK = re.compile(r"\[(?:https?:|ftp:|mailto:|//)[^\s\[\]]*[ \t]*([^\[\]]*)\]")
_LANGUAGE = re.compile(r"(?:[a-z]{2,3}|simple)(?:-[a-z]+)*")
_IN_PARENTHESES = re.compile(r"\s*\([^()]*\)\s*$")
# Links can stand in the captions of files that stand in tables of links, but not for ever.
_DEEPEST_LINK = 8

_LINE_TAG = re.compile(r"<(?:br|/p|/div|/li|/h[1-6]|/blockquote|hr)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
# Five, three or two; patterns that begin with plain characters are found several times as fast.
_QUOTES = re.compile(r"''(?:'(?:'')?)?")
_SWITCH = re.compile(r"__[A-Z]{3,}__")
_LINE_START = re.compile(r"^(?:[*#:;]+[ \t]*|-{4,}|[ \t]+)", re.MULTILINE)
_HEADING = re.compile(r"^(={1,6})[ \t]*(.*?)[ \t]*\1[ \t]*$", re.MULTILINE)
# What a template leaves behind in the middle of a sentence.
_EMPTY_PARENTHESES = re.compile(r" \([ \t,;]*\)")
_SIGN_AFTER_PARENTHESIS = re.compile(r"\([ \t]*[,;][ \t,;]*")
_HOLE = re.compile(r"  (?<=\S  ) *")
_BLANK_LINES = re.compile(r"\n\n\n+")


def plain_text(wikitext: str, hidden_namespaces: frozenset[str] = HIDDEN_NAMESPACES) -> str:
    """The text of an article; headings stand on lines of their own, those without text below them are left out.

    hidden_namespaces: lower-case names of the namespaces whose links show no text.
    """
    text = _without_regions("\n" + wikitext)
    text = _without_links(text, hidden_namespaces)
    text = _TAG.sub("", _LINE_TAG.sub("\n", text))
    text = _QUOTES.sub("", text)
    text = _SWITCH.sub("", text)
    text = _LINE_START.sub("", text)
    text = _with_bare_headings(text)
    text = html.unescape(text)
    text = _EMPTY_PARENTHESES.sub("", text)
    text = _SIGN_AFTER_PARENTHESIS.sub("(", text)
    text = _HOLE.sub(" ", text)
    text = text.replace(" , ", ", ").replace(" . ", ". ")
    text = "\n".join(map(str.rstrip, text.split("\n")))
    return _BLANK_LINES.sub("\n\n", text).strip()


class _Regions:
    """Stretches of a text that are replaced. They open and close like brackets; an outer one swallows the inner."""

    def __init__(self) -> None:
        self._open: list[tuple[str, int]] = []
        self._num_open: dict[str, int] = {}
        self._found: list[tuple[int, int, str]] = []

    def open(self, kind: str, start: int) -> None:
        self._open.append((kind, start))
        self._num_open[kind] = self._num_open.get(kind, 0) + 1

    def close(self, kind: str, end: int) -> None:
        """End the innermost region of this kind, and what was left open in it; nothing where none is open."""
        if not self._num_open.get(kind):
            return
        opened = ""
        while opened != kind:
            opened, start = self._open.pop()
            self._num_open[opened] -= 1
        self.add(start, end, "")

    def add(self, start: int, end: int, replacement: str) -> None:
        while self._found and self._found[-1][0] >= start:
            self._found.pop()
        self._found.append((start, end, replacement))

    def replaced(self, text: str) -> str:
        pieces: list[str] = []
        position = 0
        for start, end, replacement in self._found:
            pieces += (text[position:start], replacement)
            position = end
        return "".join((*pieces, text[position:]))


def _without_regions(text: str) -> str:
    """The text without templates, tables, comments and dropped elements; literal elements with their signs escaped."""
    regions = _Regions()
    endless: set[str] = set()  # literal elements that nothing closes from here on: looked for once
    behind = 0  # of a comment or a literal element, in which nothing counts
    for match in _BORDER.finditer(text):
        start, end = match.span()
        if start < behind:
            continue
        border = match.group()
        if border[0] == "{":
            # Three braces are a parameter: one pair, and its third brace goes with it.
            for number in range(len(border) // 2):
                regions.open("{{", start + 2 * number)
        elif border[0] == "}":
            pairs = len(border) // 2
            for number in range(1, pairs + 1):
                regions.close("{{", end if number == pairs else start + 2 * number)
        elif border[0] == "\n":
            if border[-1] == "|":
                regions.open("{|", start)
            else:
                regions.close("{|", end)
        elif border == "<!--":
            stop = text.find("-->", end)
            behind = len(text) if stop < 0 else stop + 3
            regions.add(start, behind, "")
        else:
            behind = _element(regions, text, match, endless)
    return regions.replaced(text)


def _element(regions: _Regions, text: str, tag: re.Match[str], endless: set[str]) -> int:
    """Take note of a tag; returns where a literal element ends, or 0."""
    name, (start, end) = tag.group("name").lower(), tag.span()
    closes, empty = bool(tag.group("close")), tag.group("rest").endswith("/")
    if name in _DROPPED:
        if closes:
            regions.close(name, end)
        elif empty:
            regions.add(start, end, "")
        else:
            regions.open(name, start)
    elif name in _LITERAL and name not in endless and not closes and not empty:
        closing = text.find(f"</{name}", end)
        stop = text.find(">", closing) if closing >= 0 else -1
        if stop >= 0:
            regions.add(start, stop + 1, text[end:closing].translate(_MARKUP_CHARACTERS))
            return stop + 1
        endless.add(name)
    return 0


def _without_links(text: str, hidden_namespaces: frozenset[str]) -> str:
    def shown(match: re.Match[str]) -> str:
        target, bar, label = match.group(1).partition("|")
        namespace, colon, _ = target.partition(":")
        namespace = namespace.strip().lower()
        if colon and (namespace in hidden_namespaces or (not bar and _LANGUAGE.fullmatch(namespace))):
            return ""
        if not bar:
            return target.removeprefix(":")
        # Nothing behind the bar stands for the target without what tells it from others of its name.
        return label.rpartition("|")[2] or _IN_PARENTHESES.sub("", target)

    for _ in range(_DEEPEST_LINK):
        text, num_links = _LINK.subn(shown, text)
        text, num_web_links = _WEB_LINK.subn(r"\1", text)
        if not num_links + num_web_links:
            break
    return text


def _with_bare_headings(text: str) -> str:
    headings = list(_HEADING.finditer(text))
    if not headings:
        return text
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    # filled[level]: text has been seen behind this place that belongs to a section of that level.
    filled = [False] * 7
    pieces: list[str] = []
    for heading, end in zip(reversed(headings), reversed(ends), strict=True):
        body = text[heading.end() : end]
        if body and not body.isspace():
            filled = [True] * 7
        level = len(heading.group(1))
        pieces.append(f"{heading.group(2)}{body}" if filled[level] else "")
        filled[level:] = [False] * (7 - level)
    return "".join((text[: headings[0].start()], *reversed(pieces)))
