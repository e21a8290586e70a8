"""tests/charts/templates and tests/charts/platform mirror the charts' templates: a default, a switched and a refused
case for each.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from charts.generator.values import CHART, PLATFORM

MIRRORS = {CHART: "templates", PLATFORM: "platform"}
TEMPLATES = [
    (chart, file.relative_to(chart / "templates"))
    for chart in MIRRORS
    for file in sorted((chart / "templates").rglob("*"))
    if file.is_file() and file.suffix != ".tpl"
]


@pytest.mark.parametrize(("chart", "template"), TEMPLATES, ids=lambda path: path.name)
def test_each_template_has_its_three_cases(chart: Path, template: Path) -> None:
    name = f"test_{template.stem.lower().replace('-', '_')}.py"
    mirror = Path(__file__).parent / MIRRORS[chart] / template.parent / name
    assert mirror.is_file(), f"{template} has no {mirror.name}"
    tests = [node.name for node in ast.parse(mirror.read_text()).body if isinstance(node, ast.FunctionDef)]
    for case in ("test_default", "test_switched", "test_refused"):
        assert any(test.startswith(case) for test in tests), f"{mirror.name} has no {case}"
