"""What a settings model refused, one sentence per problem: the key as the user wrote it, what was found, what is right.

Pure. Called by `trainer.config_file` for run files; any other file that a `Settings` model describes can use it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

# pydantic speaks of Python's types; a run file has sections and lists.
_EXPECTED = {
    "model_type": "a section with keys of its own",
    "model_attributes_type": "a section with keys of its own",
    "tuple_type": "a list",
}


def complaints(error: ValidationError, data: Any, model: type[BaseModel]) -> list[str]:
    """One sentence per problem that `model` found in `data`; errors that only follow from another are left out."""
    rules: dict[str, list[str]] = {}
    for item in error.errors():
        if _follows_from_another(item):
            continue
        path = _user_path(item["loc"], data, keep_last=item["type"] in ("extra_forbidden", "missing"))
        found, rule = _problem(item, path, model)
        # Each arm of a union such as `bool | int` has a rule of its own for the one value.
        rules.setdefault(found, []).extend([rule] if rule else [])
    sentences = [f"{found}; {' or '.join(what)}" if what else found for found, what in rules.items()]
    return [line for sentence in sentences for line in sentence.split("\n")]


def nearest(word: object, known: Iterable[str]) -> str:
    """`; did you mean ...?` where one of `known` is close to `word`, else nothing."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _follows_from_another(item: ErrorDetails) -> bool:
    if item["type"] == "default_factory_not_called":  # a default that depends on a key which is itself refused
        return True
    # A list is counted without its refused items.
    return item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]


def _problem(item: ErrorDetails, path: str, model: type[BaseModel]) -> tuple[str, str]:
    """What was found where, and what would be right (empty where the first says it all)."""
    match item["type"]:
        case "extra_forbidden":
            return f"{path}: unknown key{nearest(item['loc'][-1], _known_keys(model, item['loc'][:-1]))}", ""
        case "missing":
            return f"{path}: missing", ""
        case "union_tag_not_found":
            key = item["ctx"]["discriminator"]
            return f"{path}: needs the key {key}, which picks one of its variants (see `gpt-run config schema`)", ""
        case "union_tag_invalid":
            key, tag, arms = item["ctx"]["discriminator"].strip("'"), item["ctx"]["tag"], item["ctx"]["expected_tags"]
            near = nearest(tag, arms.replace("'", "").split(", "))
            return f"{path}.{key}: found {tag!r}; expected one of {arms}{near}", ""
        case "value_error":
            message = item["msg"].removeprefix("Value error, ")
            return f"{path}: {message}" if item["loc"] else message, ""
    return f"{path}: found {item['input']!r}", _rule(item, model)


def _rule(item: ErrorDetails, model: type[BaseModel]) -> str:
    if item["type"] in _EXPECTED:
        return f"expected {_EXPECTED[item['type']]}"
    if item["type"] == "string_pattern_mismatch":
        about = [node["description"] for node in _schema_at(model, item["loc"]) if "description" in node]
        return " ".join([f"expected a match of {item['ctx']['pattern']}", *(f"({text})" for text in about[:1])])
    if item["type"] == "too_short":
        return f"expected at least {item['ctx']['min_length']} of them"
    what = "expected a number " if item["type"].startswith(("greater_than", "less_than")) else "expected "
    return item["msg"].replace("Input should be ", what).split(", unable to ")[0]


def _user_path(loc: tuple[int | str, ...], data: Any, *, keep_last: bool) -> str:
    """The dotted path without the union tags that pydantic puts into a location.

    A part that is not in `data` is a tag, or, where `keep_last` says so, a key that is missing or unknown.
    """
    parts: list[str] = []
    node = data
    for i, part in enumerate(loc):
        children = node if isinstance(node, Mapping) else dict(enumerate(node)) if isinstance(node, list) else {}
        if part in children:
            node = children[part]
        elif not (keep_last and i == len(loc) - 1):
            continue
        parts.append(str(part))
    return ".".join(parts)


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    return sorted({key for node in _schema_at(model, loc) for key in node.get("properties", {})})


def _schema_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[dict[str, Any]]:
    """The parts of the JSON schema that may describe the value at `loc`: every arm of a union is one."""
    schema = TypeAdapter(model).json_schema()
    definitions = schema.get("$defs", {})
    nodes = [schema]
    for part in loc:
        nodes = [child for node in nodes for child in _schema_children(node, part, definitions)]
    return nodes


def _schema_children(node: dict[str, Any], part: int | str, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if part in node.get("properties", {}):
        child = node["properties"][part]
    elif isinstance(part, int):
        child = node.get("items", {})
    else:
        return [node]  # a union tag: its arms are already in the list
    arms = [child, *child.get("anyOf", []), *child.get("oneOf", []), *child.get("allOf", [])]
    return [definitions[arm["$ref"].rsplit("/", 1)[-1]] if "$ref" in arm else arm for arm in arms]
