"""Makes values.schema.json: strict, with every description, from values.yaml, RunConfig and the types of Kubernetes.

Helm checks values against it before it renders, and names the path of each key that is wrong. Rules that span keys are
not in it: those of a run file are RunConfig's, those of the chart are in templates/_checks.tpl.
"""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

from charts.generator.values import Entry
from trainer.config import RunConfig

# What the chart fills in itself.
_OWNED_BY_CHART = ("name",)
KUBERNETES = "1.34.0"
_PACKAGES = (
    "io.k8s.api.core.v1.",
    "io.k8s.api.networking.v1.",
)
_NAMESPACE = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_NAME: dict[str, Any] = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}
_QUANTITIES = {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "Quantity"}}
_OWN_TYPES: dict[str, dict[str, Any]] = {
    "StringMap": {"type": "object", "additionalProperties": {"type": "string"}},
    "Quantity": {"type": ["string", "number"]},
    # Not by `propertyNames`: of a name that is wrong there Helm does not say where it stands.
    "NameByNamespace": {"type": "object", "patternProperties": {_NAMESPACE: _NAME}, "additionalProperties": False},
    "QuotaByNamespace": {
        "type": "object",
        "patternProperties": {_NAMESPACE: _QUANTITIES},
        "additionalProperties": False,
    },
    "PriorityClassOfRuns": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "value", "description"],
        "properties": {
            # Kubernetes keeps names that begin like this for itself.
            "name": {**_NAME, "not": {"pattern": "^system-"}},
            "value": {"type": "integer", "minimum": -1_000_000_000, "maximum": 1_000_000_000},
            "description": {"type": "string"},
            "preemptionPolicy": {"enum": ["PreemptLowerPriority", "Never"]},
        },
    },
    "FlavorOfNodes": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "quota"],
        "properties": {
            "name": _NAME,
            "nodeLabels": {"$ref": "StringMap"},
            "tolerations": {"type": "array", "items": {"$ref": "Toleration"}},
            "quota": _QUANTITIES,
        },
    },
}
_NAMES = {dict: "object", list: "array", bool: "boolean", int: "integer", float: "number", str: "string"}


def schema_text(chart: str, entries: list[Entry]) -> str:
    """The whole file of a chart."""
    definitions: dict[str, Any] = {}
    properties = {entry.key: _property(entry, definitions) for entry in entries}
    # Helm puts it into the values of a chart that is part of another.
    properties["global"] = {"type": "object", "description": "Values of a parent chart; not read."}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Values of charts/{chart}",
        "type": "object",
        "additionalProperties": False,
        "required": [entry.key for entry in entries],
        "properties": properties,
        "$defs": dict(sorted(definitions.items())),
    }
    return json.dumps(schema, indent=2) + "\n"


def run_schema() -> tuple[dict[str, Any], dict[str, Any]]:
    """(schema of `run:`, its definitions): RunConfig's, with null allowed and the chart's own keys optional."""
    schema = RunConfig.model_json_schema()
    for union in _unions(schema):
        _let_null_remove_keys_of_other_arms([schema["$defs"][name] for name in union])
    definitions = {name: _nullable(node) for name, node in schema.pop("$defs").items()}
    schema = _nullable(schema)
    for node in (schema, *definitions.values()):
        for name in _optional_sections(node):
            # Null for a whole section means its defaults, too.
            definitions[name]["type"] = ["object", "null"]
    schema["required"] = [key for key in schema["required"] if key not in _OWNED_BY_CHART]
    schema["properties"].update({key: _or_null(schema["properties"][key]) for key in _OWNED_BY_CHART})
    return schema, definitions


def _unions(schema: dict[str, Any]) -> list[list[str]]:
    """Names of the definitions that are arms of one union, by union."""
    unions = [value["oneOf"] for value in schema["properties"].values() if "discriminator" in value]
    return [[arm["$ref"].rsplit("/", 1)[-1] for arm in union if "$ref" in arm] for union in unions]


def _let_null_remove_keys_of_other_arms(arms: list[dict[str, Any]]) -> None:
    """Helm merges maps, so a user who picks another arm than a values file has to null the keys of the old one."""
    everywhere = {key: None for arm in arms for key in arm["properties"]}
    for arm in arms:
        for key in everywhere:
            arm["properties"].setdefault(key, {"type": "null", "description": "A key of another variant."})


def _property(entry: Entry, definitions: dict[str, Any]) -> dict[str, Any]:
    described = {"description": entry.description}
    if entry.is_section:
        return {
            **described,
            "type": "object",
            "additionalProperties": False,
            "required": [child.key for child in entry.children if not _may_be_null(child)],
            "properties": {child.key: _property(child, definitions) for child in entry.children},
        }
    guessed = {} if entry.default is None or "enum" in entry.hint else {"type": _NAMES[type(entry.default)]}
    hint = _with_definitions(entry.hint, definitions)
    if "$ref" in hint:
        guessed = {}
    return {**described, **guessed, **hint, "default": entry.default}


def _may_be_null(entry: Entry) -> bool:
    """Null in a values file takes the key away, so these are not required."""
    return entry.default is None or "null" in entry.hint.get("type", ())


def _with_definitions(hint: Any, definitions: dict[str, Any]) -> Any:
    """`hint` with each `$ref` to a short name made one to a definition, which is added with all that it needs."""
    if isinstance(hint, list):
        return [_with_definitions(item, definitions) for item in hint]
    if not isinstance(hint, dict):
        return hint
    if "$ref" not in hint:
        return {key: _with_definitions(value, definitions) for key, value in hint.items()}
    name = hint["$ref"]
    if name == "RunConfig":
        definitions[name], more = run_schema()
        definitions.update(more)
    elif name in _OWN_TYPES:
        definitions[name] = _with_definitions(_OWN_TYPES[name], definitions)
    else:
        _add_kubernetes_type(name, definitions)
    return {**hint, "$ref": f"#/$defs/{name}"}


def _add_kubernetes_type(name: str, definitions: dict[str, Any]) -> None:
    """Add a type of Kubernetes and all types that it refers to, under their short names."""
    if name in definitions:
        return
    if name in _OWN_TYPES:
        definitions[name] = _OWN_TYPES[name]
        return
    if name == "IntOrString":
        definitions[name] = {"type": ["integer", "string"]}
        return
    found = next(node for full, node in _kubernetes_types().items() if _short(full) == name and _is_api(full))
    definitions[name] = node = _stripped(found)
    for reference in _references(node):
        _add_kubernetes_type(reference, definitions)


def _kubernetes_types() -> dict[str, Any]:
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    types: dict[str, Any] = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    return types


def _is_api(full: str) -> bool:
    return full.startswith((*_PACKAGES, "io.k8s.apimachinery."))


def _short(full: str) -> str:
    return full.rsplit(".", 1)[-1]


def _stripped(node: Any) -> Any:
    """Without texts and Kubernetes' own keywords, and with short names of types."""
    if isinstance(node, list):
        return [_stripped(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            kept[key] = {name: _stripped(property_) for name, property_ in value.items()}
        elif key == "$ref":
            kept[key] = f"#/$defs/{_short(value)}"
        elif key != "description" and not key.startswith("x-"):
            kept[key] = _stripped(value)
    return kept


def _references(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*(_references(item) for item in node))
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"].rsplit("/", 1)[-1]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*(_references(value) for value in node.values()))


def _nullable(node: dict[str, Any]) -> dict[str, Any]:
    """An object of the run file in which null stands for the default, and whose unions complain about the right arm."""
    node = copy.deepcopy(node)
    required = node.get("required", [])
    for key, value in node.get("properties", {}).items():
        value = _union(value) if "discriminator" in value else value
        node["properties"][key] = value if key in required or "const" in value else _or_null(value)
    return node


def _optional_sections(node: dict[str, Any]) -> list[str]:
    """Names of the definitions that are the values of keys which may be left out."""
    optional = [value for key, value in node["properties"].items() if key not in node.get("required", [])]
    return [value["$ref"].rsplit("/", 1)[-1] for value in optional if "$ref" in value]


def _or_null(value: dict[str, Any]) -> dict[str, Any]:
    if "enum" in value:
        return {**value, "type": ["string", "null"], "enum": [*value["enum"], None]}
    if isinstance(value.get("type"), str) and value["type"] != "null":
        return {**value, "type": [value["type"], "null"]}
    if "anyOf" in value and {"type": "null"} not in value["anyOf"]:
        return {**value, "anyOf": [*value["anyOf"], {"type": "null"}]}
    return value


def _union(value: dict[str, Any]) -> dict[str, Any]:
    """A union as conditions on its tag, so that what is wrong in one variant is not hidden by what all others miss."""
    tag, mapping = value["discriminator"]["propertyName"], value["discriminator"]["mapping"]
    kept = {key: item for key, item in value.items() if key not in ("discriminator", "oneOf")}
    tagged = {
        "required": [tag],
        "properties": {tag: {"enum": list(mapping)}},
        "allOf": [
            {"if": {"properties": {tag: {"const": name}}, "required": [tag]}, "then": {"$ref": reference}}
            for name, reference in mapping.items()
        ],
    }
    # The arms without a tag, such as the model of a preset.
    others = [arm for arm in value["oneOf"] if "$ref" not in arm]
    if not others:
        return {**kept, "type": ["object", "null"], "if": {"type": "object"}, "then": tagged}
    (other,) = others
    return {**kept, "type": "object", "if": {"required": other["required"]}, "then": other, "else": tagged}
