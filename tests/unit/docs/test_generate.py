"""The generated reference page: defaults, limits and what has to be given."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from trainer.config import RunConfig

SCRIPT = Path(__file__).parents[3] / "docs" / "generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "row",
    [
        "| `name` | string | required |",
        "| `model` | section | required |",
        "| `seed` | integer >= 0, < 9223372036854775808 | `1` |",
        "| `batch` | section |  |",
        "| `optimizer` | section | `type: adamw` |",
        "| `optimizer.type` | `muon` | required |",
        "| `optimizer.betas` | list | `[0.9, 0.95]` |",
        "| `model.kv_heads` | integer >= 1 | `null` |",
        "| `model.dropout` | number >= 0, < 1 | `0.0` |",
        "| `data.train` | string or section or list | required |",
        "| `data.validation` | string or section or list | `[]` |",
        "| `data.train[].path` | string | required |",
        '| `parallel.recompute` | `none` or `selective` or `full` | `"none"` |',
    ],
)
def test_a_row_says_type_limits_and_default(generate: ModuleType, row: str) -> None:
    assert row in generate.run_page(RunConfig.model_json_schema())


def test_every_key_of_the_schema_has_a_row(generate: ModuleType) -> None:
    schema = RunConfig.model_json_schema()
    page = generate.run_page(schema)
    for definition in (schema, *schema["$defs"].values()):
        for key in definition.get("properties", {}):
            assert f"{key}` |" in page, key


def test_the_file_map_names_every_source(generate: ModuleType) -> None:
    for file in generate.mapped_files():
        assert generate.first_line(file), f"{file} does not say what it is"
