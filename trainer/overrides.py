"""What `--set` and `GPTRUN_SET` do to a run file or a pipeline file: change single keys, or lay a file over it.

Called by `trainer.config_file` and `trainer.data.prepare.pipeline`, before anything is validated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.errors import UserError
from trainer.yaml_dialect import load_yaml, parse_yaml

# Keys that pick an arm of a union: a new value makes the old arm's keys meaningless.
_UNION_KEYS = ("type", "family")


def split_overrides(text: str) -> list[str]:
    """Split `a=b,c=[1,2]` at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char in "[{") - (char in "]}")
        if char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def apply_override(
    raw: dict[str, Any], override: str, *, source: str = "--set", exclusive: tuple[str, ...] = ()
) -> None:
    """Set one dotted key of `raw` in place: `a.b=c`; or lay a file over it: `@FILE`.

    The value is read as YAML, list items are named by their number. Setting one of the top keys `exclusive` removes the
    others. Setting a `type`, `family` or `preset` to another value starts that section afresh: the old variant's keys
    do not apply to the new one. A file's mappings merge key by key, its lists replace what is there. `source` is named
    in errors.
    """
    if override.startswith("@"):
        overlay = _read_overlay(override[1:], f"{source} {override}")
        _lay_over(raw, overlay)
        if any(overlay.get(key) is not None for key in exclusive):
            _drop_others(raw, exclusive, overlay)
        return
    key, separator, text = override.partition("=")
    path = key.strip().split(".")
    shown = f"{source} {override}"
    if not separator or not all(path):
        raise UserError(
            shown,
            expected="KEY=VALUE such as optimizer.lr=1e-3, or @FILE",
            fix="write the key, `=` and the value, or `@` and a file of keys",
        )
    value = parse_yaml(text, source=f"{source} {key}")
    node: Any = raw
    for depth, part in enumerate(path[:-1]):
        node = _descend(node, part, where=".".join(path[: depth + 1]), shown=shown)
    if isinstance(node, list):
        node[_list_index(node, path[-1], shown)] = value
        return
    if _starts_afresh(node, path[-1], value):
        node.clear()
    if len(path) == 1 and path[0] in exclusive:
        _drop_others(raw, exclusive, path)
    node[path[-1]] = value


def _read_overlay(path: str, shown: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise UserError(
            f"{shown}: no such file", expected="a YAML file of keys to lay over", fix="check the path behind the @"
        )
    overlay = load_yaml(Path(path))
    if not isinstance(overlay, dict):
        raise UserError(
            f"{shown}: " + ("empty" if overlay is None else f"a {type(overlay).__name__}, not a mapping"),
            expected="keys such as steps, model, data",
            fix="write the file as `key: value` lines",
        )
    return overlay


def _lay_over(node: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    if any(_starts_afresh(node, key, overlay[key]) for key in (*_UNION_KEYS, "preset") if key in overlay):
        node.clear()
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(node.get(key), dict):
            _lay_over(node[key], value)
        else:
            node[key] = value


def _drop_others(raw: dict[str, Any], exclusive: tuple[str, ...], kept: Mapping[str, Any] | list[str]) -> None:
    for key in exclusive:
        if key not in kept:
            raw.pop(key, None)


def _starts_afresh(section: Mapping[str, Any], key: str, value: Any) -> bool:
    before = section.get(key)
    if key == "preset":  # fields that stayed would override the preset's
        return bool(before != value)
    return key in _UNION_KEYS and before not in (None, value)


def _descend(node: Any, part: str, *, where: str, shown: str) -> Any:
    if isinstance(node, list):
        return node[_list_index(node, part, shown)]
    child = node.get(part)
    if child is None:
        node[part] = child = {}
    if not isinstance(child, dict | list):
        raise UserError(f"{shown}: `{where}` is {child!r}", expected="a section", fix=f"set `{where}` itself")
    return child


def _list_index(items: list[Any], part: str, shown: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise UserError(
            f"{shown}: no item `{part}`", expected=f"a number below {len(items)}", fix="name an item by number"
        )
    return int(part)
