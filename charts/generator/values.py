"""Reads the chart's values.yaml with its comments: what each key means, its default and its limits.

The comment lines above a key are its description. A last line `# @schema {...}` holds JSON Schema that cannot be
guessed from the default (limits, words, the items of a list); with `$ref` it names a type of Kubernetes or the run
file, and the key's value is then one piece, whose own keys need no comments. Schema and README are made from this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.yaml_dialect import load_yaml, parse_yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "gpt-run"
PLATFORM = ROOT / "charts" / "gpt-platform"

_KEY = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):")
_COMMENT = re.compile(r"^ *# ?(.*)$")
_HINT = "@schema "


@dataclass(frozen=True)
class Entry:
    """One key of values.yaml."""

    key: str
    default: Any
    description: str
    hint: dict[str, Any]
    """JSON Schema of the `@schema` line."""
    children: list[Entry] = field(default_factory=list)
    """Keys of a section; empty for a value."""

    @property
    def is_section(self) -> bool:
        """True for a mapping whose keys are entries of their own."""
        return isinstance(self.default, dict) and not self.hint


def read_values(path: Path = CHART / "values.yaml") -> list[Entry]:
    """The entries of a values file. ValueError for a key without a comment."""
    values = load_yaml(path)
    assert isinstance(values, dict)
    comments = _comments(path.read_text(encoding="utf-8"))
    return [_entry((str(key),), value, comments) for key, value in values.items()]


def _entry(path: tuple[str, ...], default: Any, comments: dict[tuple[str, ...], list[str]]) -> Entry:
    lines = comments.get(path, [])
    dotted = ".".join(path)
    hint: dict[str, Any] = {}
    if lines and lines[-1].startswith(_HINT):
        parsed = parse_yaml(lines[-1].removeprefix(_HINT), source=f"values.yaml {dotted}")
        assert isinstance(parsed, dict), dotted
        hint, lines = parsed, lines[:-1]
    if not lines:
        raise ValueError(f"values.yaml: {dotted} has no comment that says what it is")
    entry = Entry(path[-1], default, " ".join(lines), hint)
    if not entry.is_section:
        return entry
    children = [_entry((*path, str(key)), value, comments) for key, value in default.items()]
    return Entry(entry.key, default, entry.description, hint, children)


def _comments(text: str) -> dict[tuple[str, ...], list[str]]:
    """Path of a key -> the comment lines right above it."""
    found: dict[tuple[str, ...], list[str]] = {}
    block: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        if comment := _COMMENT.match(line):
            block.append(comment[1])
            continue
        if key := _KEY.match(line):
            indent = len(key[1])
            parents = [*(parent for parent in parents if parent[0] < indent), (indent, key[2])]
            found[tuple(name for _, name in parents)] = block
        block = []
    return found
