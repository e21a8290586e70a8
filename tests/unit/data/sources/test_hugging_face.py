"""Data sets of the Hub: which files are read as what. The protocol itself: tests/integration/data/test_hub.py."""

from __future__ import annotations

import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.data.sources import HuggingFace, TextSource
from trainer.errors import UserError


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="Hugging Face") as caught:
        HuggingFace(type="hf", dataset="owner/name", files="*.parquet").parts()
    assert "gpt-run[data]" in caught.value.fix


@pytest.mark.parametrize("dataset", ["name", "https://host/owner/name", "owner/name/more"])
def test_a_data_set_has_an_owner_and_a_name(dataset: str) -> None:
    with pytest.raises(ValidationError, match="dataset"):
        HuggingFace(type="hf", dataset=dataset, files="*.parquet")


def test_the_type_picks_the_source() -> None:
    source = TypeAdapter(TextSource).validate_python({"type": "hf", "dataset": "owner/name", "files": "*.parquet"})
    assert isinstance(source, HuggingFace)
    with pytest.raises(ValidationError, match="'jsonl', 'common-crawl', 'parquet', 'hf'"):
        TypeAdapter(TextSource).validate_python({"type": "csv"})
