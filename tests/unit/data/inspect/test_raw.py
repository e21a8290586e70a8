"""Inspection of raw token files: what they say, and what a tokenizer or nanoGPT's meta.pkl adds."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from trainer.data.inspect import inspect_data
from trainer.data.inspect.reading import PIECE_TOKENS
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import UserError


def test_a_raw_file_says_its_ids_and_no_more(tmp_path: Path) -> None:
    np.array([5, 5, 7, 9], dtype="<u2").tofile(tmp_path / "t.bin")
    report = inspect_data(str(tmp_path / "t.bin"))
    (split,) = report.splits
    assert (report.name, report.tokenizer, report.filters, split.documents, split.text_bytes) == (
        None,
        None,
        (),
        None,
        None,
    )
    assert (split.name, split.tokens, split.lengths, split.repeats) == ("train", 4, None, None)
    assert split.vocabulary is not None
    assert (split.vocabulary.size, split.vocabulary.used, split.vocabulary.never_used) == (None, 3, None)
    assert (split.vocabulary.largest_id, split.vocabulary.never_used_ids) == (9, ())
    assert (split.samples[0].ids, split.samples[0].text, split.samples[0].document) == ((5, 5, 7, 9), None, None)
    with pytest.raises(UserError, match="to verify against"):
        inspect_data(str(tmp_path / "t.bin"), verify=True)
    with pytest.raises(UserError, match="has no split 'validation'"):
        inspect_data(str(tmp_path / "t.bin"), split="validation")


@pytest.mark.parametrize("is_in_front", [False, True])
def test_a_tokenizer_tells_where_documents_end(prepared: Path, tmp_path: Path, is_in_front: bool) -> None:
    tokenizer = load_tokenizer(prepared / "tokenizer.json")
    end = tokenizer.token_to_id("<|endoftext|>")
    texts = ["One text.", "Another, longer text.", "One text.", "The last."]
    rows = [tokenizer.encode(text).ids for text in texts]
    rows = [[end, *row] if is_in_front else [*row, end] for row in rows]
    np.save(tmp_path / "train.npy", np.concatenate(rows).astype(np.uint16))
    np.save(tmp_path / "val.npy", np.array(rows[1], dtype=np.uint16))
    report = inspect_data(str(tmp_path), tokenizer=str(prepared / "tokenizer.json"), samples=5)
    train, validation = report.splits
    assert (train.documents, train.tokens) == (4, sum(map(len, rows)))
    assert train.lengths is not None
    assert (train.lengths.shortest, train.lengths.longest) == (min(map(len, rows)), max(map(len, rows)))
    assert train.repeats is not None
    assert (train.repeats.repeats, train.repeats.most_repeated[0].sample.text) == (1, "One text.")
    assert {sample.text for sample in train.samples} == set(texts)
    assert validation.also_in_train is not None
    assert validation.also_in_train.found == 1
    assert report.tokenizer is not None
    assert (report.tokenizer.vocab_size, report.tokenizer.eos_id) == (300, end)


@pytest.mark.parametrize("document_tokens", [700, PIECE_TOKENS - 1, PIECE_TOKENS + 5])
def test_documents_across_pieces_are_counted_once(prepared: Path, tmp_path: Path, document_tokens: int) -> None:
    tokens = np.full(PIECE_TOKENS * 5 // 2, 5, dtype=np.uint16)
    tokens[document_tokens - 1 :: document_tokens] = 0
    np.save(tmp_path / "t.npy", tokens)
    (split,) = inspect_data(str(tmp_path / "t.npy"), tokenizer=str(prepared)).splits
    assert split.read.complete
    assert split.lengths is not None
    ends = np.flatnonzero(tokens == 0) + 1
    sizes = np.diff([0, *ends.tolist(), *([len(tokens)] if ends[-1] < len(tokens) else [])])
    # What is longer than a piece counts as several documents.
    assert split.lengths.longest == min(max(sizes), 2 * PIECE_TOKENS)
    assert sum(bucket.tokens for bucket in split.lengths.histogram) == len(tokens)
    if document_tokens < PIECE_TOKENS:
        assert split.documents == len(sizes)


def test_of_a_large_file_windows_are_read(prepared: Path, tmp_path: Path) -> None:
    tokens = np.tile(np.array([5, 6, 7, 8, 0], dtype=np.uint16), PIECE_TOKENS)
    np.save(tmp_path / "t.npy", tokens)
    (split,) = inspect_data(str(tmp_path / "t.npy"), tokenizer=str(prepared), sampled_tokens=2 * PIECE_TOKENS).splits
    assert (split.read.complete, split.documents, split.read.tokens) == (False, None, 2 * PIECE_TOKENS)
    assert split.lengths is not None
    # Documents that a window cuts do not count, so all have their whole length.
    assert (split.lengths.shortest, split.lengths.longest) == (5, 5)
    assert split.vocabulary is not None
    assert split.vocabulary.used == 5


def test_nanogpts_meta_file_gives_characters(tmp_path: Path) -> None:
    np.array([2, 0, 1], dtype="<u2").tofile(tmp_path / "train.bin")
    np.array([1, 1], dtype="<u2").tofile(tmp_path / "val.bin")
    meta = {"vocab_size": 4, "itos": {0: "a", 1: "b", 2: "\n", 3: "z"}, "stoi": {}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    train, validation = inspect_data(str(tmp_path)).splits
    assert (train.samples[0].text, validation.samples[0].text) == ("\nab", "bb")
    assert train.vocabulary is not None
    assert (train.vocabulary.size, train.vocabulary.never_used_ids) == (4, ((3, 3),))
    np.array([1, 4], dtype="<u2").tofile(tmp_path / "val.bin")
    with pytest.raises(UserError, match=r"val\.bin has id 4 at token 1") as caught:
        inspect_data(str(tmp_path))
    assert caught.value.expected == "ids from 0 to 3, as the tokenizer has"


def test_numbers_that_are_no_ids_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "negative.npy", np.array([3, -1]))
    np.save(tmp_path / "huge.npy", np.array([3, 4, 1 << 40]))
    with pytest.raises(UserError, match=r"negative\.npy has id -1 at token 1"):
        inspect_data(str(tmp_path / "negative.npy"))
    with pytest.raises(UserError, match=r"huge\.npy has id 1099511627776 at token 2"):
        inspect_data(str(tmp_path / "huge.npy"))
