"""Byte-level BPE: lossless on any text, deterministic, known by its fingerprint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from trainer.data.tokenizer import (
    END_OF_TEXT,
    end_of_text_id,
    load_tokenizer,
    tokenizer_fingerprint,
    train_bpe,
    vocabulary_size,
)
from trainer.errors import UserError

TEXT = [Path(json.__file__).read_text(encoding="utf-8")]
TOKENIZER = train_bpe(TEXT, 400)


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    TOKENIZER.encode_special_tokens = True
    ids = TOKENIZER.encode(text).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text
    assert end_of_text_id(TOKENIZER) not in ids


def test_training_gives_the_size_asked_for_and_the_same_result_again() -> None:
    assert vocabulary_size(TOKENIZER) == TOKENIZER.get_vocab_size() == 400
    assert train_bpe(TEXT, 400).to_str() == TOKENIZER.to_str()
    assert TOKENIZER.token_to_id(END_OF_TEXT) == 0


def test_the_fingerprint_is_that_of_the_content_not_of_the_layout(tmp_path: Path) -> None:
    for name, pretty in (("a", True), ("b", False)):
        TOKENIZER.save(str(tmp_path / name), pretty=pretty)
    found = {tokenizer_fingerprint(load_tokenizer(tmp_path / name)) for name in "ab"}
    assert found == {tokenizer_fingerprint(TOKENIZER)}
    assert tokenizer_fingerprint(train_bpe(TEXT, 401)) not in found


def test_a_vocabulary_with_holes_counts_up_to_its_largest_id() -> None:
    assert vocabulary_size(Tokenizer(models.WordLevel({"a": 0, "b": 9}, unk_token="a"))) == 10


def test_padding_and_truncation_in_the_file_are_switched_off(tmp_path: Path) -> None:
    tokenizer = train_bpe(TEXT, 300)
    ids = tokenizer.encode("a text of several tokens").ids
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "t.json"))
    assert load_tokenizer(tmp_path / "t.json").encode("a text of several tokens").ids == ids


def test_a_tokenizer_may_lie_in_a_store(tmp_path: Path) -> None:
    MemoryFileSystem().pipe_file("/tokenizers/t.json", TOKENIZER.to_str().encode())
    assert tokenizer_fingerprint(load_tokenizer("memory://tokenizers/t.json")) == tokenizer_fingerprint(TOKENIZER)
    with pytest.raises(UserError, match=r"memory://tokenizers/none\.json is not a tokenizer"):
        load_tokenizer("memory://tokenizers/none.json")


def test_bad_tokenizers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    (tmp_path / "folder.json").mkdir()
    for name in ("t.json", "missing.json", "folder.json"):
        with pytest.raises(UserError, match=rf"{name} is not a tokenizer"):
            load_tokenizer(tmp_path / name)
    with pytest.raises(UserError, match="no end-of-text token"):
        end_of_text_id(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
