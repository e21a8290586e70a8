"""Names that come from elsewhere stay below the folder that they are joined to."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.paths import stays_inside

BAD = ["../x", "a/../../x", "/etc/x", "", ".", "..", "a//b", "a/", "./a", "a\0b"]


@pytest.mark.parametrize("name", BAD)
def test_names_that_lead_out(name: str) -> None:
    assert not stays_inside(name)


@pytest.mark.parametrize("name", ["a", "a/b", "train/shard-00000.arrow", "..a", "a..b/...", ".metadata", "a b"])
def test_ordinary_names(name: str) -> None:
    assert stays_inside(name)


@given(st.text(alphabet="a./\0\\", max_size=12))
def test_what_passes_is_below_its_folder(name: str) -> None:
    folder = Path("/some/folder")
    if stays_inside(name):
        found = (folder / name).resolve()
        assert folder in found.parents
        assert ".." not in (folder / name).parts
