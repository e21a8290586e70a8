"""From a run file or preset name, `GPTRUN_SET` and `--set` to a RunConfig; all complaints are reported together.

Called by the commands. The steps, in order: read, override, take over `model.preset`, drop nulls, validate.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.complaints import complaints, nearest
from trainer.config import LENGTH_KEYS, RunConfig
from trainer.errors import UserError
from trainer.yaml_dialect import dump_yaml, load_yaml, parse_yaml

# Keys that pick an arm of a union: a new value makes the old arm's keys meaningless.
_UNION_KEYS = ("type", "family")


def load_run_config(reference: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Load the run file or preset `reference`; `GPTRUN_SET` applies first, then `overrides` (`a.b=c`).

    Raises UserError with every problem found, each with the path of its key.
    """
    raw = read_run_file(reference)
    for override in split_overrides(os.environ.get("GPTRUN_SET", "")):
        apply_override(raw, override, source="GPTRUN_SET")
    for override in overrides:
        apply_override(raw, override)
    return validate_run(raw, source=reference)


def read_run_file(reference: str) -> dict[str, Any]:
    """The mapping in a run file, or of a preset given by name."""
    path = Path(reference)
    if not path.is_file():
        if reference not in preset_names():
            raise UserError(
                f"{reference}: neither a file nor a preset{nearest(reference, preset_names())}",
                expected=f"a run file or one of {', '.join(preset_names())}",
                fix="check the path or the name",
            )
        path = Path(str(resources.files("trainer") / "presets" / f"{reference}.yaml"))
    raw = load_yaml(path)
    if not isinstance(raw, dict):
        raise UserError(
            f"{reference}: " + ("empty" if raw is None else f"a {type(raw).__name__}, not a mapping"),
            expected="keys such as name, model, data",
            fix="see `gpt-run config show tiny-gpt2` for an example",
        )
    return raw


def preset_names() -> list[str]:
    """Names of the presets that ship with the package, sorted."""
    folder = resources.files("trainer") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


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


def apply_override(raw: dict[str, Any], override: str, *, source: str = "--set") -> None:
    """Set one dotted key of `raw` in place: `a.b=c`; the value is read as YAML, list items by their number.

    Setting one of steps, epochs and tokens removes the other two. Setting a `type`, `family` or `preset` to another
    value starts that section afresh: the old variant's keys do not apply to the new one. `source` is named in errors.
    """
    key, separator, text = override.partition("=")
    path = key.strip().split(".")
    shown = f"{source} {override}"
    if not separator or not all(path):
        raise UserError(shown, expected="KEY=VALUE such as optimizer.lr=1e-3", fix="write the key, `=` and the value")
    value = parse_yaml(text, source=f"{source} {key}")
    node: Any = raw
    for depth, part in enumerate(path[:-1]):
        node = _descend(node, part, where=".".join(path[: depth + 1]), shown=shown)
    if isinstance(node, list):
        node[_list_index(node, path[-1], shown)] = value
        return
    if _starts_afresh(node, path[-1], value):
        node.clear()
    if len(path) == 1 and path[0] in LENGTH_KEYS:
        for other in LENGTH_KEYS:
            raw.pop(other, None)
    node[path[-1]] = value


def validate_run(raw: Mapping[str, Any], *, source: str) -> RunConfig:
    """Validate `raw`; raises UserError with every complaint, the path of its key and the nearest right key."""
    data = drop_nulls(_with_model_preset(dict(raw)))
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        problems = complaints(error, data, RunConfig)
        number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(
            f"{source}: {number}\n" + "\n".join(f"  - {problem}" for problem in problems),
            expected="the keys and values that `gpt-run config schema` describes",
            fix="correct the keys named above",
        ) from None


def drop_nulls(value: Any) -> Any:
    """Without the keys whose value is null: null means the default, in run files, values files and custom resources."""
    if isinstance(value, dict):
        return {key: drop_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [drop_nulls(item) for item in value]
    return value


def run_config_yaml(config: RunConfig) -> str:
    """The effective config, every default included, as a run file."""
    return dump_yaml(config.model_dump(mode="json", exclude_none=True))


def changed_keys(a: RunConfig, b: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ: {key: (value in a, value in b)}; None where a side lacks the key."""
    flat_a, flat_b = dict(_flatten(a.model_dump(mode="json"))), dict(_flatten(b.model_dump(mode="json")))
    keys = sorted({*flat_a, *flat_b})
    return {key: (flat_a.get(key), flat_b.get(key)) for key in keys if flat_a.get(key) != flat_b.get(key)}


def _with_model_preset(raw: dict[str, Any]) -> dict[str, Any]:
    """Replace `model: {preset: NAME, ...}` by the preset's model with the other keys laid over it."""
    model = raw.get("model")
    if not isinstance(model, dict) or "preset" not in model:
        return raw
    name = model["preset"]
    if name not in preset_names():
        raise UserError(
            f"model.preset: {name!r} is unknown{nearest(name, preset_names())}",
            expected=f"one of {', '.join(preset_names())}",
            fix="pick a preset",
        )
    base = read_run_file(name)["model"]
    changes = {key: value for key, value in model.items() if key != "preset"}
    if changes.get("family", base["family"]) != base["family"]:
        raise UserError(
            f"model.family: {changes['family']} with preset {name}, which is {base['family']}",
            expected="one family",
            fix="remove `family` or pick another preset",
        )
    return {**raw, "model": {**base, **changes}}


def _starts_afresh(section: dict[str, Any], key: str, value: Any) -> bool:
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


def _flatten(value: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value
