"""Keys that a command sets, and whether a JSON schema has them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from trainer.complaints import nearest

# Written for any key, value or number: KEY, k, a.b, <name>, $NAME, ...
_PLACEHOLDER = re.compile(r"[A-Z_]+|[a-z](\.[a-z])*|.*[<$].*|\.\.\.")


def assigned(words: Sequence[str], options: Collection[str]) -> Iterator[str]:
    """The keys of `--set a.b=1,c=2` among the words of a command; nothing for `@FILE` and placeholders."""
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option not in options:
            continue
        value = value if equals else next(iter(words[number + 1 :]), "")
        # Commas inside of brackets and braces belong to a value; one that no `=` follows too.
        for pair in re.split(r",(?=[\w.\\/-]+=)", re.sub(r"\{[^{}]*\}|\[[^\]]*\]", "", value)):
            key = pair.partition("=")[0]
            if key and not key.startswith("@") and not _PLACEHOLDER.fullmatch(key):
                yield key


def missing_key(schema: dict[str, Any], key: str) -> str:
    """The first part of a dotted key that the schema does not have, with its nearest neighbour; empty if it has all."""
    nodes = [schema]
    path: list[str] = []
    for part in (part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", key)):
        path.append(part)
        arms = [arm for node in nodes for arm in _arms(node, schema)]
        nodes = [child for arm in arms for child in _children(arm, part)]
        if not nodes:
            known = {name for arm in arms for name in arm.get("properties", {})}
            return f"`{'.'.join(path)}`{nearest(part, known)}"
    return ""


def _children(arm: dict[str, Any], part: str) -> Iterator[dict[str, Any]]:
    if part in arm.get("properties", {}):
        yield arm["properties"][part]
    elif part.isdigit() and "items" in arm:
        yield arm["items"]
    else:
        free = arm.get("additionalProperties", "properties" not in arm and arm.get("type", "object") == "object")
        if free is not False:
            yield {} if free is True else free


def _arms(node: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The node with references followed, or the alternatives that it stands for."""
    parts = [part for word in ("anyOf", "oneOf", "allOf") for part in node.get(word, [])]
    if "then" in node:
        parts.append(node["then"])
    if "$ref" in node:
        parts.append(schema["$defs"][node["$ref"].rpartition("/")[2]])
    for part in parts:
        yield from _arms(part, schema)
    if not parts or "properties" in node:
        yield node
