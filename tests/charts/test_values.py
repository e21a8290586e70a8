"""values.yaml: every value is used, documented and checked; the schema refuses what is wrong and names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from charts.generator.values import CHART, Entry, read_values
from tests.charts.rendering import Chart, Object, merged, nested
from tests.charts.test_standards import EVERYTHING

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# Another value for what neither flips nor counts up; the rest is found by its type.
OTHERS: Object = {
    "backend": "rayjob",
    "run": {"seed": 7},
    "image.digest": "sha256:" + "b" * 64,
    "image.pullPolicy": "Never",
    "policy.hang.action": "Report",
    "gpu.perWorker": 4,
    "gpu.currency": "EUR",
    "workers.shm": "1Gi",
    "workers.ephemeralStorage": "1Gi",
    "workers.max": 5,
    "store.url": "s3://other",
    "store.secretMountPath": "/other",
    "store.volume.mountPath": "/mnt",
    "monitoring.serviceMonitor.interval": "5s",
    "ray.version": "2.49.0",
    "jobs.export.dtype": "fp32",
    "jobs.tokenizer.inlinePipeline": {"name": "other"},
    "jobs.prepare.inlinePipeline": {"name": "other"},
    "jobs.export.checkpoint": "best",
    "jobs.evaluate.data": ["/store/other"],
    "jobs.evaluate.prompts": ["def "],
    "jobs.tokenizer.output": "/store/other",
    "jobs.prepare.output": "/store/other",
    "nodePool.affinity": {"nodeAffinity": {}},
    "network.policy.from": [],
    "network.policy.rayFrom": [],
}
# What must change with a value for the values to stay free of contradictions.
WITH: Object = {
    "store.volume.mountPath": {"jobs": {"prepare": {"enabled": False}, "tokenizer": {"enabled": False}}},
    "store.serviceAccountName": nested("store.serviceAccountAnnotations", None),
    "network.hostNetwork": nested("network.policy.enabled", False),
    "policy.capacity.enabled": nested("scheduling.queueName", ""),
    "image.tag": nested("image.digest", ""),
    "store.secretName": nested("store.secretMountPath", ""),
    "jobs.tokenizer.pipeline": {"jobs": {"tokenizer": {"inlinePipeline": None}}},
    "jobs.prepare.pipeline": {"jobs": {"prepare": {"inlinePipeline": None}}},
}


def leaves(entries: list[Entry], prefix: str = "") -> Iterator[tuple[str, Entry]]:
    """Every value that is no section, with its path."""
    for entry in entries:
        if entry.is_section:
            yield from leaves(entry.children, f"{prefix}{entry.key}.")
        else:
            yield f"{prefix}{entry.key}", entry


LEAVES = dict(leaves(read_values()))


def other_value(path: str, entry: Entry, base: Any) -> Any:
    """A value that differs from what the base has."""
    if path in OTHERS:
        return OTHERS[path]
    now = entry.default if base is None else base
    kind = entry.hint.get("$ref")
    if isinstance(now, bool):
        return not now
    if isinstance(now, int | float) or (now is None and "integer" in str(entry.hint.get("type"))):
        return (now or 0) + 1
    if kind == "ResourceRequirements":
        return {"requests": {"cpu": 77}}
    if kind == "StringMap":
        return {"example.com/other": "other"}
    if isinstance(now, list):
        items = entry.hint["items"]["$ref"]
        return [{"secretRef": {"name": "other"}} if items == "EnvFromSource" else _other_items[items]]
    return "other"


_other_items: Object = {
    "EnvVar": {"name": "OTHER", "value": "x"},
    "Toleration": {"operator": "Exists"},
    "LocalObjectReference": {"name": "other"},
}


def lookup(values: Object, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


@pytest.mark.parametrize("path", LEAVES)
def test_every_value_is_used(chart: Chart, path: str) -> None:
    """Changing it changes what is rendered, with one back-end or the other."""
    change = nested(path, other_value(path, LEAVES[path], lookup(EVERYTHING, path)))
    around = merged(EVERYTHING, WITH.get(path, {}))
    for backend in ("pytorchjob", "rayjob"):
        base = merged(around, {"backend": backend})
        before, after = chart.template(base), chart.template(merged(base, change))
        assert (before.returncode, after.returncode) == (0, 0), before.stderr + after.stderr
        if before.stdout != after.stdout:
            return
    raise AssertionError(f"{path}: nothing that is rendered depends on it")


def test_the_schema_is_one_and_takes_the_defaults() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    defaults = {path: entry.default for path, entry in LEAVES.items() if path != "run"}
    for path, default in defaults.items():
        node: Any = SCHEMA
        for key in path.split("."):
            node = node["properties"][key]
        validator = jsonschema.Draft202012Validator({**node, "$defs": SCHEMA["$defs"]})
        assert list(validator.iter_errors(default)) == [], path


def test_every_object_of_the_schema_refuses_unknown_keys() -> None:
    def loose(node: Any, path: str) -> Iterator[str]:
        if isinstance(node, dict):
            is_object = isinstance(node.get("properties"), dict) and node.get("type") in ("object", ["object", "null"])
            # A model taken from a preset has the keys of a family that the schema cannot know.
            known = "additionalProperties" in node or node.get("title") == "preset" or "then" in node
            if is_object and not known:
                yield path
            for key, value in node.items():
                yield from loose(value, f"{path}/{key}")
        elif isinstance(node, list):
            for item in node:
                yield from loose(item, path)

    assert list(loose(SCHEMA, "")) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gpu.perWorker", 0),
        ("workers.min", 0),
        ("workers.resources", {"requests": {"cpu": {}}}),
        ("lifecycle.gracePeriodSeconds", -1),
        ("image.digest", "sha256:123"),
        ("nodePool.tolerations", [{"key": "a", "operater": "Exists"}]),
        ("workers.env", [{"value": "without a name"}]),
        ("worker", {}),
        ("workers.min", None),
        ("policy.hang", {"after": 1}),
    ],
)
def test_wrong_values_are_refused_by_the_name_of_their_key(chart: Chart, path: str, value: Any) -> None:
    assert path.split(".")[-1] in chart.refusal(nested(path, value))


def test_all_that_is_missing_is_said_at_once(chart: Chart) -> None:
    result = chart.run("template", "demo", str(CHART), "--kube-version", "1.34.0")
    assert "at '/run': missing properties 'model', 'sequence_length', 'data'" in result.stderr


def test_values_of_a_parent_chart_are_let_through(chart: Chart) -> None:
    assert chart.kinds({"global": {"anything": 1}}) == chart.kinds()


def test_values_without_a_comment_are_refused(tmp_path: Any) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("# What it is.\na: 1\nb:\n  # Known.\n  c: 2\n")
    with pytest.raises(ValueError, match="b has no comment"):
        read_values(file)
