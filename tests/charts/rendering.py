"""Renders the chart as its users do, through the helm binary, and finds things in what comes out."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from charts.generator.manifests import KUBERNETES
from charts.generator.values import CHART

Object = dict[str, Any]

RELEASE = "demo"
# The fewest values that render.
MINIMAL: Object = {
    "store": {"url": "s3://bucket/runs"},
    "run": {
        "steps": 10,
        "model": {"family": "gpt2"},
        "sequence_length": 1024,
        "data": {"train": "s3://bucket/data"},
    },
}


@dataclass(frozen=True)
class Chart:
    """A chart, rendered with the fewest values and what a test lays over them."""

    helm: Path
    folder: Path
    path: Path = CHART
    fewest: Object = field(default_factory=lambda: MINIMAL)

    def render(self, values: Object | None = None, *arguments: str, release: str = RELEASE) -> list[Object]:
        """Everything that is rendered, hooks and tests included."""
        result = self.template(values, *arguments, release=release)
        assert result.returncode == 0, result.stderr
        return [node for node in yaml.safe_load_all(result.stdout) if node]

    def one(self, kind: str, name: str = RELEASE, values: Object | None = None) -> Object:
        """The one object of this kind and name."""
        return find(self.render(values), kind, name)

    def kinds(self, values: Object | None = None) -> set[str]:
        """KIND/NAME of all objects."""
        return {f"{node['kind']}/{node['metadata']['name']}" for node in self.render(values)}

    def refusal(self, values: Object, *arguments: str, release: str = RELEASE) -> str:
        """What helm says when it refuses to render."""
        result = self.template(values, *arguments, release=release)
        assert result.returncode != 0, "rendered"
        return result.stderr

    def template(
        self, values: Object | None, *arguments: str, release: str = RELEASE
    ) -> subprocess.CompletedProcess[str]:
        """`helm template`; values files given as arguments come before `values`. The same is not rendered twice."""
        key = (str(self.path), json.dumps(values), arguments, release)
        if key not in _RENDERED:
            _RENDERED[key] = self._template(values or {}, arguments, release)
        return _RENDERED[key]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Any helm command."""
        return subprocess.run([self.helm, *arguments], capture_output=True, text=True, check=False)

    def _template(self, values: Object, arguments: tuple[str, ...], release: str) -> subprocess.CompletedProcess[str]:
        minimal, over = self.folder / "minimal.json", self.folder / "values.json"
        minimal.write_text(json.dumps(self.fewest))
        over.write_text(json.dumps(values))
        start = ("template", release, str(self.path), "--kube-version", KUBERNETES, "--values", str(minimal))
        return self.run(*start, *arguments, "--values", str(over))


_RENDERED: dict[tuple[Any, ...], subprocess.CompletedProcess[str]] = {}


def find(objects: list[Object], kind: str, name: str = RELEASE) -> Object:
    """The one object of this kind and name."""
    found = [node for node in objects if (node["kind"], node["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
    return found[0]


def container(pod: Object, name: str | None = None) -> Object:
    """The container of a pod template or pod, by name where there are more."""
    containers: list[Object] = pod["spec"]["containers"]
    return next(item for item in containers if name in (None, item["name"]))


def worker(job: Object) -> Object:
    """The worker pod's template of a PyTorchJob or RayJob."""
    template: Object
    if job["kind"] == "PyTorchJob":
        template = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
    else:
        template = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]
    return template


def pods(node: Object) -> list[Object]:
    """All pods and pod templates inside an object."""
    if node["kind"] == "Pod":
        return [node]
    return list(_templates(node["spec"])) if "spec" in node else []


def _templates(node: Any) -> list[Object]:
    if isinstance(node, list):
        return [found for item in node for found in _templates(item)]
    if not isinstance(node, dict):
        return []
    if "spec" in node and isinstance(node["spec"], dict) and "containers" in node["spec"]:
        return [node]
    return [found for item in node.values() for found in _templates(item)]


def environment(pod: Object) -> dict[str, str]:
    """Environment of a pod's first container; of what Kubernetes fills in, the field."""
    return {
        item["name"]: item["value"] if "value" in item else item["valueFrom"]["fieldRef"]["fieldPath"]
        for item in container(pod)["env"]
    }


def merged(base: Object, over: Object) -> Object:
    """Values laid over values as helm does it: null takes a key away."""
    result = {key: value for key, value in base.items() if over.get(key, value) is not None}
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif value is not None:
            result[key] = value
    return result


def nested(path: str, value: Any) -> Object:
    """{a: {b: value}} of `a.b`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    found: Object = value
    return found
