"""Tokens that are ready: found, checked against the vocabulary, cut into rows; and a meta.pkl that runs no code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.sources import token_files
from trainer.data.sources.token_files import Counted, Meta, TokenFiles, checked, load_meta, token_rows
from trainer.errors import UserError


def write_bin(path: Path, tokens: list[int]) -> None:
    np.asarray(tokens, dtype=np.uint16).tofile(path)


@pytest.fixture
def nanogpt(tmp_path: Path) -> Path:
    write_bin(tmp_path / "train.bin", [1, 2, 0, 3, 0, 0, 4])
    write_bin(tmp_path / "val.bin", [5, 0])
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 6, "itos": {0: "\n", 1: "a"}, "stoi": {"a": 1}}))
    return tmp_path


def test_rows_end_with_the_end_of_a_document(nanogpt: Path) -> None:
    source = TokenFiles(type="tokens", path=str(nanogpt), eos_id=0)
    rows = [row.tolist() for row in token_rows(source, "train")]
    assert rows == [[1, 2, 0], [3, 0], [0], [4]]
    assert [row.tolist() for row in token_rows(source, "validation")] == [[5, 0]]
    assert list(token_rows(source, "test")) == []
    assert checked(source) == {"train": Counted(1, 7, 3, 4), "validation": Counted(1, 2, 1, 5)}


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
    source = TokenFiles(type="tokens", path=str(tmp_path / "**" / "a.np?"), eos_id=0, cache=cache)
    assert [row.tolist() for row in token_rows(source, "train")] == [[1, 70_000, 0], [2]]


@given(tokens=st.lists(st.integers(0, 3), max_size=60), eos_id=st.sampled_from([None, 0]), row_tokens=st.integers(1, 9))
def test_rows_laid_end_to_end_are_the_file(
    tmp_path_factory: Any, tokens: list[int], eos_id: int | None, row_tokens: int
) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "train.npy"
    np.save(path, np.array(tokens, dtype=np.uint16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_files, "ROW_TOKENS", row_tokens)
        rows = [row.tolist() for row in token_rows(TokenFiles(type="tokens", path=str(path), eos_id=eos_id), "train")]
    assert [token for row in rows for token in row] == tokens
    assert all(rows)
    if eos_id is not None:
        assert not any(eos_id in row[:-1] for row in rows)
    assert max(map(len, rows), default=0) < 2 * row_tokens


def test_an_id_that_the_vocabulary_lacks_is_named(nanogpt: Path) -> None:
    assert checked(TokenFiles(type="tokens", path=str(nanogpt))) == {
        "train": Counted(1, 7, 0, 4),
        "validation": Counted(1, 2, 0, 5),
    }
    with pytest.raises(UserError, match=r"val\.bin: token 0 has id 5"):
        checked(TokenFiles(type="tokens", path=str(nanogpt), vocab_size=5))
    np.save(nanogpt / "signed.npy", np.array([1, -1]))
    with pytest.raises(UserError, match=r"signed\.npy: token 1 has id -1"):
        checked(TokenFiles(type="tokens", path=str(nanogpt / "signed.npy")))


@pytest.mark.parametrize("names", [[], ["a.txt"], ["a.bin", "b.npy"]])
def test_a_folder_has_token_files_of_one_kind(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"xx")
    with pytest.raises(UserError, match="holds"):
        TokenFiles(type="tokens", path=str(tmp_path)).splits()


def test_a_truncated_file_is_refused(nanogpt: Path) -> None:
    (nanogpt / "train.bin").write_bytes((nanogpt / "train.bin").read_bytes()[:-1])
    with pytest.raises(UserError, match="odd number"):
        checked(TokenFiles(type="tokens", path=str(nanogpt)))


def test_the_meta_file_tells_the_vocabulary(nanogpt: Path) -> None:
    assert load_meta(TokenFiles(type="tokens", path=str(nanogpt))) == Meta(6, {0: "\n", 1: "a"})
    (nanogpt / "meta.pkl").unlink()
    assert load_meta(TokenFiles(type="tokens", path=str(nanogpt))) is None


class _Touch:
    """Pickled, it makes a file wherever it is loaded with care for nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_meta_file_with_code_runs_nothing(nanogpt: Path) -> None:
    trap = nanogpt / "trap"
    (nanogpt / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 6, "more": _Touch(trap)}))
    source = TokenFiles(type="tokens", path=str(nanogpt))
    with pytest.raises(UserError, match=r"meta\.pkl is not nanoGPT's: UnpicklingError: it would call"):
        load_meta(source)
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
        pickle.dumps({"vocab_size": 6, "itos": {0: b"a"}}),
        pickle.dumps({"vocab_size": np.int64(6)}),
        pickle.dumps({"vocab_size": 6})[:-3],
    ],
)
def test_a_meta_file_of_another_kind_is_refused(nanogpt: Path, content: bytes) -> None:
    (nanogpt / "meta.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"meta\.pkl is not nanoGPT's"):
        load_meta(TokenFiles(type="tokens", path=str(nanogpt)))


def test_what_is_recorded_tells_the_files_and_not_the_cache(nanogpt: Path) -> None:
    source = TokenFiles(type="tokens", path=str(nanogpt), eos_id=0)
    assert source.record() == {"type": "tokens", "path": str(nanogpt), "eos_id": 0}
    before = source.fingerprint()
    write_bin(nanogpt / "train_2.bin", [1])
    assert source.fingerprint() != before
