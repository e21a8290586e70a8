"""Renders manifests/ from the chart: a kustomize base and overlays for those who do not use helm.

The base is a run under the training operator. An overlay is what the chart renders otherwise, as kustomize says it:
patches of what differs, deletions, more objects. Hooks and tests of helm are left out: kustomize has neither.
"""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from charts.generator.schema import KUBERNETES
from charts.generator.values import CHART, ROOT

FOLDER = ROOT / "manifests"
NAME = "gpt-run"
BASE = "pytorchjob"
# Store and data are examples: the user's own overlay sets them.
_EXAMPLE = ("store.url=s3://BUCKET/runs", "run.data.train=s3://BUCKET/data", "store.secretName=gpt-run-store")
# Overlay -> values file and settings. On the CPU overlay's volume the data has to be there: no hook prepares it.
OVERLAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    BASE: ("values-h100.yaml", _EXAMPLE),
    "rayjob": ("values-l40s-ray.yaml", _EXAMPLE),
    "cpu": ("values-cpu.yaml", ()),
}
_HEADER = "# Rendered from charts/gpt-run by `make generate`; change the chart, or write an overlay of your own.\n"

# What means nothing without a release of helm.
_HELMS_OWN = ("app.kubernetes.io/managed-by", "gptrun.io/run-sha256")

Objects = dict[str, dict[str, Any]]


def render(helm: Path) -> dict[Path, str]:
    """All files below manifests/: path -> text."""
    rendered = {overlay: rendered_objects(helm, overlay) for overlay in OVERLAYS}
    base = rendered[BASE]
    files = _folder(FOLDER / "base", base, {"resources": _files(base)})
    for overlay, objects in rendered.items():
        added = {name: node for name, node in objects.items() if name not in base}
        content = {"resources": ["../../base", *_files(added)], "patches": _patches(base, objects)}
        files |= _folder(FOLDER / "overlays" / overlay, added, {key: value for key, value in content.items() if value})
    return files


def rendered_objects(helm: Path, overlay: str) -> Objects:
    """What the chart renders for an overlay, without what helm's releases alone have: file name -> object."""
    values, settings = OVERLAYS[overlay]
    return _objects(helm, values, settings)


def _folder(folder: Path, objects: Objects, content: dict[str, Any]) -> dict[Path, str]:
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **content}
    texts = {"kustomization": kustomization, **objects}
    return {folder / f"{name}.yaml": _HEADER + dump(node) for name, node in texts.items()}


def _files(objects: Objects) -> list[str]:
    return sorted(f"{name}.yaml" for name in objects)


def _patches(base: Objects, objects: Objects) -> list[dict[str, Any]]:
    """How the base's objects become an overlay's."""
    patches: list[dict[str, Any]] = []
    for name, node in sorted(base.items()):
        target = {"kind": node["kind"], "name": node["metadata"]["name"]}
        if name not in objects:
            identity = {"apiVersion": node["apiVersion"], "kind": node["kind"]}
            deletion = {"$patch": "delete", **identity, "metadata": {"name": target["name"]}}
            patches.append({"target": target, "patch": dump(deletion)})
        elif node != objects[name]:
            patches.append({"target": target, "patch": dump(_changes(node, objects[name], ""))})
    return patches


def _changes(old: dict[str, Any], new: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """JSON Patch from one mapping to another."""
    operations: list[dict[str, Any]] = []
    for key in sorted({*old, *new}):
        pointer = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in new:
            operations.append({"op": "remove", "path": pointer})
        elif key not in old:
            operations.append({"op": "add", "path": pointer, "value": new[key]})
        elif old[key] != new[key]:
            operations += _change(old[key], new[key], pointer)
    return operations


def _change(old: Any, new: Any, pointer: str) -> list[dict[str, Any]]:
    """JSON Patch from one value to another; lists of different lengths are replaced whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        return _changes(old, new, pointer)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new) == 1:
        return _change(old[0], new[0], f"{pointer}/0")
    return [{"op": "replace", "path": pointer, "value": new}]


def _objects(helm: Path, values: str, settings: tuple[str, ...]) -> Objects:
    command = [str(helm), "template", NAME, str(CHART), "--values", str(CHART / values), "--no-hooks", "--skip-tests"]
    # A helm built from source takes a very old Kubernetes for granted.
    command += ["--kube-version", KUBERNETES]
    for setting in settings:
        command += ["--set", setting]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"helm template with {values} failed:\n{result.stderr}")
    nodes = [node for node in YAML(typ="safe", pure=True).load_all(result.stdout) if node]
    return {_file_name(node): _without_helm(node) for node in nodes}


def _file_name(node: dict[str, Any]) -> str:
    """`service-coordinator` for the Service gpt-run-coordinator, `pytorchjob` for the PyTorchJob gpt-run."""
    part = node["metadata"]["name"].removeprefix(NAME).removeprefix("-")
    return "-".join(filter(None, [node["kind"].lower(), part]))


def _without_helm(node: Any) -> Any:
    """Without what only releases of helm have, and without the namespace, which kubectl gives."""
    if isinstance(node, list):
        return [_without_helm(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _without_helm(value) for key, value in node.items() if key not in _HELMS_OWN}
    if "metadata" in kept and "kind" in kept:
        kept["metadata"].pop("namespace", None)
        if not kept["metadata"].get("annotations", True):
            del kept["metadata"]["annotations"]
    return kept


def dump(data: Any) -> str:
    """YAML in which texts of several lines stand as they are."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 120
    yaml.representer.add_representer(str, _represent_text)
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def _represent_text(representer: Any, text: str) -> Any:
    style = "|" if "\n" in text else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)
