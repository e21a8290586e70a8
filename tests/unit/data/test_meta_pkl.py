"""A meta.pkl tells the vocabulary's size, and runs no code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.meta_pkl import Meta, read_meta
from trainer.data.remote import locate
from trainer.errors import UserError


@pytest.fixture
def nanogpt(tmp_path: Path) -> Path:
    np.arange(60, dtype=np.uint16).tofile(tmp_path / "train.bin")
    np.arange(60, dtype=np.uint16).tofile(tmp_path / "val.bin")
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 65, "itos": {0: "\n"}, "stoi": {"\n": 0}}))
    return tmp_path


def found(folder: Path) -> Meta | None:
    return read_meta(locate(str(folder / "meta.pkl")))


@pytest.mark.parametrize("path", ["", "train.bin"])
def test_files_that_are_used_in_place_have_its_vocabulary(nanogpt: Path, path: str) -> None:
    source = Source(path=str(nanogpt / path))
    split = open_tokens(source, split="train", sequence_length=8, cache=CacheConfig())
    assert (split.vocab_size, split.tokenizer) == (65, None)
    (nanogpt / "meta.pkl").unlink()
    assert open_tokens(source, split="train", sequence_length=8, cache=CacheConfig()).vocab_size is None


def test_it_tells_the_vocabulary(nanogpt: Path) -> None:
    assert found(nanogpt) == Meta(65, {0: "\n"})
    (nanogpt / "meta.pkl").unlink()
    assert found(nanogpt) is None


class _Touch:
    """Pickled, it makes a file wherever it is loaded with care for nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_it_is_not_run(nanogpt: Path) -> None:
    trap = nanogpt / "trap"
    (nanogpt / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 6, "more": _Touch(trap)}))
    with pytest.raises(UserError, match=r"meta\.pkl is not nanoGPT's: UnpicklingError: it would call"):
        found(nanogpt)
    assert not trap.exists()
    pickle.loads((nanogpt / "meta.pkl").read_bytes())
    assert trap.exists(), "the trap works where nothing holds it back"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish",
        pickle.dumps([1]),
        pickle.dumps({"vocab_size": "6"}),
        pickle.dumps({"vocab_size": 0}),
        pickle.dumps({"vocab_size": np.int64(6)}),
        pickle.dumps({"vocab_size": 6, "itos": {0: b"a"}}),
        pickle.dumps({"vocab_size": 6})[:-3],
    ],
)
def test_one_of_another_kind_is_refused(nanogpt: Path, content: bytes) -> None:
    (nanogpt / "meta.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"meta\.pkl is not nanoGPT's"):
        found(nanogpt)
