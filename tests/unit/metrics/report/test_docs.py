"""docs/report.md explains every name of the JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.metrics.report import Report

PAGE = Path(__file__).parents[4] / "docs" / "report.md"


def names(schema: dict[str, Any]) -> Iterator[str]:
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {})


def test_every_name_of_the_json_is_explained() -> None:
    words = set(re.findall(r"\w+", PAGE.read_text(encoding="utf-8").split("## The JSON")[1]))
    assert set(names(Report.model_json_schema())) - words == set()
