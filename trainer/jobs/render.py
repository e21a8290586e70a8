"""What the chart renders for a run, by `helm template`. Called by `gpt-run job submit`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import UserError
from trainer.yaml_dialect import parse_yaml

CHART = "charts/gpt-run"
_HOOK = "helm.sh/hook"
_HOOK_WEIGHT = "helm.sh/hook-weight"


@dataclass(frozen=True)
class Rendered:
    """The objects of a release, in the order in which they are to be applied."""

    before: list[dict[str, Any]]
    """Hooks that come first, such as the preflight Job."""
    objects: list[dict[str, Any]]


def render(
    name: str,
    *,
    chart: str,
    namespace: str,
    values: Sequence[str],
    overrides: Sequence[str],
    kube_version: str | None = None,
) -> Rendered:
    """Render a release. UserError with helm's own words for values that the chart refuses.

    overrides: `key=value` with the value in the YAML of run files, so that `1e-4` is a number.
    """
    if shutil.which("helm") is None:
        raise UserError(
            "helm is not on PATH",
            expected="helm 3.14 or newer, which renders the chart",
            fix="install it: helm.sh/docs",
        )
    if chart == CHART and not Path(chart).is_dir():
        raise UserError(
            f"{chart}: no such folder",
            expected="the chart below this folder, as in a clone of the project",
            fix="name the chart: --chart FOLDER, or --chart oci://REGISTRY/gpt-run",
        )
    command = ["helm", "template", name, chart, "--namespace", namespace]
    command += ["--kube-version", kube_version] if kube_version else []
    command += [word for file in values for word in ("--values", file)]
    command += [word for override in overrides for word in ("--set-json", json_override(override))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        said = (
            result.stderr.strip().removeprefix("Error: ").replace("\n\nUse --debug flag to render out invalid YAML", "")
        )
        raise UserError(
            f"the chart refuses these values: {said}",
            expected="values as `helm show values` describes them",
            fix="correct what the message names, in the values file or with --set",
        )
    # YAML 1.1, which is what the API server's own tools read: 0644 is octal.
    return in_order([one for one in yaml.safe_load_all(result.stdout) if one])


def json_override(override: str) -> str:
    """`key=value` for helm's --set-json."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise UserError(
            f"--set {override}", expected="KEY=VALUE such as workers.replicas=3", fix="write key, `=`, value"
        )
    return f"{key.strip()}={json.dumps(parse_yaml(text, source=f'--set {key}'))}"


def in_order(objects: Sequence[dict[str, Any]]) -> Rendered:
    """Sort out the hooks: those before an install by weight; tests and what comes later are left out. Pure."""
    hooks = [one for one in objects if "pre-install" in _annotations(one).get(_HOOK, "").split(",")]
    return Rendered(
        before=sorted(hooks, key=lambda one: int(_annotations(one).get(_HOOK_WEIGHT, "0"))),
        objects=[one for one in objects if _HOOK not in _annotations(one)],
    )


def _annotations(item: dict[str, Any]) -> dict[str, str]:
    return item["metadata"].get("annotations") or {}
