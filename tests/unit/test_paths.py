"""Names that come from elsewhere stay below the folder that they are joined to."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import UserError
from trainer.paths import require_local, stays_inside

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


def test_urls_are_no_places_of_this_machine() -> None:
    for url in ("s3://bucket/x", "gs://x", "file:///x", "abfs://a@b/c"):
        with pytest.raises(UserError, match=r"--output \w+:/.* is a URL\n.*\n.*upload it"):
            require_local(Path(url), "--output", fix="upload it")
    for name in ("s3:", "a:b/c", "/x/s3:/y", "data/x", "c:x"):
        require_local(Path(name), "--output", fix="upload it")
