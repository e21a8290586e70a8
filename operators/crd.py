"""The CustomResourceDefinition of TrainingRun, made from the models of `operators.api`.

`charts.generator` writes it to charts/gpt-platform. pydantic speaks JSON Schema, the API server a structural subset of
OpenAPI 3.0: references are put in place, null and titles go, what has two spellings gets the older one. Rules on two
fields are CEL, which the API server applies to /scale as well; their messages are fixed texts, for one made of numbers
would break the budget that it has for the cost of rules.
"""

from __future__ import annotations

from typing import Any

from operators import api

Schema = dict[str, Any]

NAME = f"{api.PLURAL}.{api.GROUP}"
CATEGORY = "gptrun"
_SUSPEND = """kubectl patch tr/NAME --type=merge -p '{"spec":{"suspend":true}}'"""
_FITS = " || ".join(f"(self.kind == '{kind}' && self.apiVersion == '{it}')" for kind, it in api.API_VERSIONS.items())
_FIT = ", ".join(f"{kind} is {version}" for kind, version in api.API_VERSIONS.items())

# Path below spec -> rules there.
RULES: dict[tuple[str, ...], list[dict[str, str]]] = {
    (): [
        {
            "rule": "!has(self.replicas) || (self.replicas >= self.elastic.min && self.replicas <= self.elastic.max)",
            "message": "replicas is outside elastic.min..elastic.max: choose a number within, or change elastic; "
            f"to give all nodes back, suspend the run: {_SUSPEND}",
            "fieldPath": ".replicas",
        }
    ],
    ("elastic",): [
        {
            "rule": "self.min <= self.max",
            "message": "elastic.min is above elastic.max: lower min or raise max",
            "fieldPath": ".min",
        }
    ],
    ("jobRef",): [
        {
            "rule": "self == oldSelf",
            "message": "jobRef cannot be changed: delete this TrainingRun (its job goes on) and make one for the "
            "other job",
        },
        {
            "rule": _FITS,
            "message": f"apiVersion does not fit kind: {_FIT}",
            "fieldPath": ".apiVersion",
        },
    ],
}
# Name, type, path; those with a priority are shown by `--output=wide`.
COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Workers", "integer", ".status.workers", 0),
    ("Step", "integer", ".status.step", 0),
    ("Loss", "number", ".status.loss", 0),
    ("Tokens/s", "number", ".status.tokensPerSecond", 0),
    ("MFU", "number", ".status.mfu", 0),
    ("Checkpoint", "date", ".status.lastCheckpoint.time", 0),
    ("Goodput", "number", ".status.goodput", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Steps", "integer", ".status.stepsTotal", 1),
    # As text: kubectl prints a date to come as <invalid>.
    ("Done by", "string", ".status.estimatedCompletion", 1),
    ("Job", "string", ".spec.jobRef.kind", 1),
)
# Lists of the status whose items have a key, so that server-side apply can tell them apart.
_KEYS = {"conditions": "type", "restarts": "reason"}
_EXCLUSIVE = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
_KEPT = (
    "type",
    "format",
    "description",
    "enum",
    "default",
    "required",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
)


def document() -> dict[str, Any]:
    """The whole object, as it is applied."""
    names = {"kind": api.KIND, "listKind": f"{api.KIND}List", "plural": api.PLURAL, "singular": api.SINGULAR}
    version = {
        "name": api.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.workers",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
            for name, kind, path, priority in COLUMNS
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": api.GROUP,
            "names": {**names, "shortNames": [api.SHORT_NAME], "categories": [CATEGORY]},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def schema() -> Schema:
    """Of one TrainingRun."""
    spec, status = structural(api.TrainingRunSpec), structural(api.TrainingRunStatus)
    for path, rules in RULES.items():
        node = spec
        for key in path:
            node = node["properties"][key]
        node["x-kubernetes-validations"] = [dict(rule) for rule in rules]
    for key, name in _KEYS.items():
        node = status["properties"][key]
        node.update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [name]})
    return {
        "description": "A pretraining run that the operator keeps alive within the bounds of its spec.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            # What was observed has no defaults: what is not there was not seen.
            "status": _without_defaults(status),
        },
    }


def structural(model: type[api.Model]) -> Schema:
    """The schema of a model as the API server takes it."""
    found = model.model_json_schema(by_alias=True)
    return _structural(found, found.get("$defs", {}))


def _structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _resolved(node, definitions)
    if unknown := [key for key in ("oneOf", "allOf", "prefixItems", "patternProperties") if key in node]:
        raise ValueError(f"the API server takes no {', '.join(unknown)} here, or not in this form: {node}")
    if "const" in node:
        node = {**node, "enum": [node["const"]]}
    found = {key: node[key] for key in _KEPT if key in node}
    for exclusive, limit in _EXCLUSIVE.items():
        if exclusive in node:
            found |= {limit: node[exclusive], exclusive: True}
    if "description" in found:
        found["description"] = " ".join(found["description"].split())
    if found.get("default", ...) is None:
        del found["default"]
    if "properties" in node:
        found["properties"] = {key: _structural(value, definitions) for key, value in node["properties"].items()}
        # The defaults of its keys fill it.
        found |= {"default": {}} if "default" in found else {}
    elif isinstance(node.get("additionalProperties"), dict):
        found["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "items" in node:
        found["items"] = _structural(node["items"], definitions)
    return found


def _resolved(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Without reference, and without null: the API server drops one that is written, so that it takes the default."""
    if "$ref" in node:
        own = {key: value for key, value in node.items() if key != "$ref"}
        return _resolved({**definitions[node["$ref"].rpartition("/")[2]], **own}, definitions)
    if "anyOf" in node:
        own = {key: value for key, value in node.items() if key != "anyOf"}
        arms = [arm for arm in node["anyOf"] if arm.get("type") != "null"]
        if len(arms) != 1:
            raise ValueError(f"a CRD has no field of two types: {node}")
        return _resolved({**arms[0], **own}, definitions)
    return node


def _without_defaults(node: Schema) -> Schema:
    found = {key: value for key, value in node.items() if key != "default"}
    if "properties" in node:
        found["properties"] = {key: _without_defaults(value) for key, value in node["properties"].items()}
    if "items" in node:
        found["items"] = _without_defaults(node["items"])
    return found
