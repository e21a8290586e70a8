"""A set that preparation made of text, repeats, terminal escapes and markup included."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.prepare import Pipeline, prepare

NUM_TEXTS = 60
# Acts on terminals, pages and rich alike unless it is written out.
HOSTILE = "\x1b[31mred\u202e [bold]not markup[/bold] <script>alert(1)</script> & more"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 texts, a fifth for validation, five times the same one, one that is not UTF-8."""
    root = tmp_path_factory.mktemp("inspect")
    (root / "texts").mkdir()
    for number in range(NUM_TEXTS):
        text = HOSTILE if 10 <= number < 15 else f"Text {number} says é.\n" * (number + 1)
        (root / "texts" / f"{number:03d}.txt").write_text(text, encoding="utf-8")
    (root / "texts" / "latin.txt").write_bytes(b"\xff")
    pipeline = Pipeline.model_validate(
        {
            "name": "small",
            "output": str(root / "set"),
            "sources": [{"type": "text", "path": str(root / "texts")}],
            "duplicates": {"exact": False},
            "tokenizer": {"type": "bpe", "vocab_size": 300, "sample_bytes": 100_000},
            "validation_fraction": 0.2,
            "shard_tokens": 2000,
        }
    )
    prepare(pipeline, root / "set")
    return root / "set"
