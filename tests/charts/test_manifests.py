"""manifests/: up to date, and kustomize makes of them what the chart renders."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generator.__main__ import out_of_date
from charts.generator.manifests import FOLDER, OVERLAYS, render, rendered_objects
from tests.charts.rendering import Object


def build(folder: Path) -> list[Object]:
    if shutil.which("kubectl") is None:
        pytest.skip("manifests are built with kubectl, which is not on PATH")
    result = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


def test_they_are_up_to_date(helm: Path) -> None:
    files = render(helm)
    assert out_of_date(files) == []
    assert set(FOLDER.rglob("*.yaml")) == set(files)


def by_name(objects: Iterable[Object]) -> dict[tuple[str, str], Object]:
    return {(node["kind"], node["metadata"]["name"]): trimmed(node) for node in objects}


def trimmed(node: Any) -> Any:
    """Without the last line end of texts: kustomize takes that of a patch away."""
    if isinstance(node, dict):
        return {key: trimmed(value) for key, value in node.items()}
    if isinstance(node, list):
        return [trimmed(item) for item in node]
    return node.rstrip("\n") if isinstance(node, str) else node


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_what_the_chart_renders(helm: Path, overlay: str) -> None:
    assert by_name(build(FOLDER / "overlays" / overlay)) == by_name(rendered_objects(helm, overlay).values())


def test_the_base_stands_alone() -> None:
    assert {node["kind"] for node in build(FOLDER / "base")} >= {"PyTorchJob", "Deployment", "Service", "ConfigMap"}


def test_a_users_overlay_lays_a_run_file_of_their_own_over_it(tmp_path: Path) -> None:
    """As docs/kubernetes.md has it."""
    shutil.copytree(FOLDER, tmp_path / "manifests")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "run.yaml").write_text("name: mine\n")
    (mine / "kustomization.yaml").write_text(
        "resources: [../manifests/overlays/pytorchjob]\n"
        "configMapGenerator:\n"
        "  - {name: gpt-run-run, behavior: replace, files: [run.yaml], options: {disableNameSuffixHash: true}}\n"
    )
    config = next(node for node in build(mine) if node["kind"] == "ConfigMap")
    assert config["data"] == {"run.yaml": "name: mine\n"}
