"""The generated reference page: defaults, limits and what has to be given."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import files, generate
from docs.check.pages import tracked
from trainer.config import RunConfig


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
def test_a_row_says_type_limits_and_default(row: str) -> None:
    assert row in generate.run_page(RunConfig.model_json_schema())


def test_every_key_of_the_schema_has_a_row() -> None:
    schema = RunConfig.model_json_schema()
    page = generate.run_page(schema)
    for definition in (schema, *schema["$defs"].values()):
        for key in definition.get("properties", {}):
            assert f"{key}` |" in page, key


def test_every_folder_and_file_says_what_it_is_for() -> None:
    described = files.described_folders()
    for folder in described:
        assert files.said_of(folder), f"{folder} does not say what it is for"
    for file in files.mapped_files():
        assert files.first_line(files.ROOT / file), f"{file} does not say what it is"
    for file in map(Path, tracked(files.ROOT)):
        top = file.parts[0]
        if len(file.parts) > 1 and not top.startswith("."):
            assert top == "tests" or top == "charts" or top in described, f"{top}: say in docs/files.py what it is for"
        if len(file.parts) > 2 and top in ("charts", "tests"):
            folder = "/".join(file.parts[:2])
            assert folder in described, f"{folder}: say in docs/files.py what it is for"
