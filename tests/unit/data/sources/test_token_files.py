"""Tokens that are ready: found, cut into rows, checked against the vocabulary."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.sources import token_files
from trainer.data.sources.token_files import TokenFiles, check_vocabulary, token_rows
from trainer.errors import UserError


def write_bin(path: Path, tokens: list[int]) -> None:
    np.asarray(tokens, dtype=np.uint16).tofile(path)


def rows_of(source: TokenFiles, split: str = "train", *, eos_id: int = 0, vocab_size: int = 1 << 20) -> list[list[int]]:
    return [
        row.tolist()
        for row in token_rows(source.splits().get(split, []), source.cache, eos_id=eos_id, vocab_size=vocab_size)
    ]


@pytest.fixture
def nanogpt(tmp_path: Path) -> Path:
    write_bin(tmp_path / "train.bin", [1, 2, 0, 3, 0, 0, 4])
    write_bin(tmp_path / "val.bin", [5, 0])
    return tmp_path


def test_rows_end_with_the_end_of_a_document(nanogpt: Path) -> None:
    source = TokenFiles(type="tokens", path=str(nanogpt))
    assert rows_of(source) == [[1, 2, 0], [3, 0], [0], [4]]
    assert rows_of(source, "validation") == [[5, 0]]
    assert rows_of(source, "test") == []


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "deep/a.npz"])
def test_arrays_are_read_like_bare_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    tokens = np.array([1, 70_000, 0, 2], dtype=np.uint32)
    cache = {"path": str(tmp_path / "cache")}
    if name.endswith("npy"):
        np.save(path, tokens)
    else:
        np.savez_compressed(path, first=tokens[:2], second=tokens[2:])
    source = TokenFiles(type="tokens", path=str(tmp_path / "**" / "a.np?"), cache=cache)
    assert rows_of(source) == [[1, 70_000, 0], [2]]


@given(tokens=st.lists(st.integers(0, 3), max_size=60), eos_id=st.integers(0, 4), row_tokens=st.integers(1, 9))
def test_rows_laid_end_to_end_are_the_file(
    tmp_path_factory: Any, tokens: list[int], eos_id: int, row_tokens: int
) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "train.npy"
    np.save(path, np.array(tokens, dtype=np.uint16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_files, "ROW_TOKENS", row_tokens)
        rows = rows_of(TokenFiles(type="tokens", path=str(path)), eos_id=eos_id)
    assert [token for row in rows for token in row] == tokens
    assert all(rows)
    assert not any(eos_id in row[:-1] for row in rows)
    assert max(map(len, rows), default=0) < 2 * row_tokens


def test_an_id_that_the_vocabulary_lacks_is_named(nanogpt: Path) -> None:
    with pytest.raises(UserError, match=r"val\.bin: token 0 has id 5"):
        rows_of(TokenFiles(type="tokens", path=str(nanogpt)), "validation", vocab_size=5)
    np.save(nanogpt / "signed.npy", np.array([1, -1]))
    with pytest.raises(UserError, match=r"signed\.npy: token 1 has id -1"):
        rows_of(TokenFiles(type="tokens", path=str(nanogpt / "signed.npy")))


def test_a_meta_file_with_more_ids_than_the_tokenizer_is_refused(nanogpt: Path) -> None:
    source = TokenFiles(type="tokens", path=str(nanogpt))
    check_vocabulary(source.splits(), 5)
    (nanogpt / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 6}))
    check_vocabulary(source.splits(), 6)
    with pytest.raises(UserError, match=r"meta\.pkl says that the files have 6 ids"):
        check_vocabulary(source.splits(), 5)


@pytest.mark.parametrize("names", [[], ["a.txt"], ["a.bin", "b.npy"]])
def test_a_folder_has_token_files_of_one_kind(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"xx")
    with pytest.raises(UserError, match="holds"):
        TokenFiles(type="tokens", path=str(tmp_path)).splits()


def test_a_truncated_file_is_refused(nanogpt: Path) -> None:
    (nanogpt / "train.bin").write_bytes((nanogpt / "train.bin").read_bytes()[:-1])
    with pytest.raises(UserError, match="odd number"):
        rows_of(TokenFiles(type="tokens", path=str(nanogpt)))


def test_what_is_recorded_tells_the_files_and_not_the_cache(nanogpt: Path) -> None:
    source = TokenFiles(type="tokens", path=str(nanogpt), cache={"path": "elsewhere"})
    assert source.record() == {"type": "tokens", "path": str(nanogpt)}
    before = source.fingerprint()
    write_bin(nanogpt / "train_2.bin", [1])
    assert source.fingerprint() != before
