"""tests/charts/templates mirrors the chart's templates: a default, a switched and a refused case for each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from charts.generator.values import CHART

TEMPLATES = [
    file.relative_to(CHART / "templates")
    for file in sorted((CHART / "templates").rglob("*"))
    if file.is_file() and file.suffix != ".tpl"
]


@pytest.mark.parametrize("template", TEMPLATES, ids=str)
def test_each_template_has_its_three_cases(template: Path) -> None:
    name = f"test_{template.stem.lower().replace('-', '_')}.py"
    mirror = Path(__file__).parent / "templates" / template.parent / name
    assert mirror.is_file(), f"{template} has no {mirror.name}"
    tests = [node.name for node in ast.parse(mirror.read_text()).body if isinstance(node, ast.FunctionDef)]
    for case in ("test_default", "test_switched", "test_refused"):
        assert any(test.startswith(case) for test in tests), f"{mirror.name} has no {case}"
