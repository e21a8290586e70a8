"""Conversations become packed rows: whole samples, marked answers, and nothing lost that is not counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.chat import Encoded
from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.loader import read_rows
from trainer.data.marks import CONTEXT, FIRST, ids_of, marks_of
from trainer.data.prepare import prepare
from trainer.data.prepare.engine import Processes
from trainer.data.prepare.packing import best_fit, pack
from trainer.data.prepare.pipeline import ChatPipeline
from trainer.data.shards import DatasetInfo
from trainer.data.split import TokenSplit
from trainer.data.tokenizer import load_tokenizer, train_bpe
from trainer.errors import UserError

T = 64

Make = Callable[..., DatasetInfo]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Prepare lines of JSON; keyword arguments change the block `chat`."""
    train_bpe(["Question: what is it? Answer: it is that."] * 9, 300).save(str(tmp_path / "tokenizer.json"))

    def run(lines: list[Any], *, output: str = "set", **chat: Any) -> DatasetInfo:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (tmp_path / "talks.jsonl").write_text(text)
        pipeline = ChatPipeline.model_validate(
            {
                "name": "talks",
                "output": "unused",
                "sources": [{"type": "conversations", "path": str(tmp_path / "talks.jsonl")}],
                "tokenizer": {"type": "file", "path": str(tmp_path / "tokenizer.json")},
                "validation_fraction": 0.2,
                "shard_tokens": 500,
                "chat": {"template": "plain", "sequence_length": T, **chat},
            }
        )
        return prepare(pipeline, tmp_path / output, engine=Processes(1)).info

    return run


def talk(number: int, words: int = 3) -> dict[str, str]:
    return {"prompt": f"what is {number}?", "completion": f"it is {number}" + " that" * words}


def opened(folder: Path, split: str = "train", length: int = T) -> TokenSplit:
    return open_tokens(Source(path=str(folder)), split=split, sequence_length=length, cache=CacheConfig())


def all_rows(split: TokenSplit) -> np.ndarray:
    ids = np.stack([np.zeros(split.num_samples, dtype=np.int64), np.arange(split.num_samples)], axis=1)
    return read_rows([split], ids, split.sequence_length, vocab_size=300)


def test_every_sample_is_in_one_row_as_it_is(tmp_path: Path, make: Make) -> None:
    info = make([talk(number, words=number % 17) for number in range(60)])
    tokenizer = load_tokenizer(tmp_path / "set" / "tokenizer.json")
    found = []
    for name in ("train", "validation"):
        split = opened(tmp_path / "set", name)
        assert split.packed
        assert split.num_samples == info.splits[name].documents
        for row in all_rows(split):
            ids, marks = ids_of(row), marks_of(row)
            starts = np.flatnonzero(marks & FIRST)
            for part, mark in zip(np.split(ids, starts)[1:], np.split(marks, starts)[1:], strict=True):
                counted = tokenizer.decode(part[mark & CONTEXT == 0].tolist(), skip_special_tokens=False)
                if counted:
                    found.append((tokenizer.decode(part.tolist(), skip_special_tokens=False), counted))
    expected = [
        (f"Question: {one['prompt']}\nAnswer: {one['completion']}<|endoftext|>\n", f" {one['completion']}<|endoftext|>")
        for one in (talk(number, words=number % 17) for number in range(60))
    ]
    assert sorted(found) == sorted(expected)
    assert info.packing is not None
    assert info.packing.samples == 60
    assert info.packing.padding_tokens < 0.2 * sum(split.tokens for split in info.splits.values())


def test_another_length_than_that_of_the_rows_is_refused(tmp_path: Path, make: Make) -> None:
    make([talk(number) for number in range(20)])
    with pytest.raises(UserError, match=f"packed into sequences of {T} tokens, sequence_length is 32"):
        opened(tmp_path / "set", length=32)


def test_what_is_dropped_is_counted(make: Make) -> None:
    lines: list[Any] = [talk(1), talk(2), talk(3), talk(4), talk(5, words=400)]
    lines += [{"messages": [{"role": "user", "content": "hm"}]}, {"prompt": "a<|endoftext|>", "completion": "b"}]
    info = make(lines)
    assert {each["name"]: each["dropped"] for each in info.filters if each["dropped"]} == {
        "no-answer": 1,
        "special-token": 1,
        "too-long": 1,
    }
    cut = make(lines, output="cut", too_long="cut")
    assert cut.packing is not None
    assert (cut.packing.samples, cut.packing.cut_samples) == (5, 1)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", r"talks\.jsonl:3: Expecting"),
        ({"messages": [{"role": "robot", "content": "a"}]}, r"talks\.jsonl:3: messages\[0\]\.role"),
        ({"prompt": "a", "completion": ""}, r"talks\.jsonl:3: messages\[1\]\.content"),
    ],
)
def test_a_bad_line_is_refused_by_file_and_line(line: Any, problem: str, make: Make) -> None:
    with pytest.raises(UserError, match=problem):
        make([talk(1), talk(2), line, talk(4)])


def test_nothing_that_could_be_learned_is_refused(make: Make) -> None:
    with pytest.raises(UserError, match="gives no training samples: too-long dropped 2"):
        make([talk(1, words=300), talk(2, words=300)])


@given(lengths=st.lists(st.integers(1, 20), max_size=60))
def test_best_fit_places_each_sample_once_and_never_over_the_edge(lengths: list[int]) -> None:
    rows = best_fit(lengths, 20)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert all(sum(lengths[place] for place in row) <= 20 for row in rows)
    # Two rows that fit into one would have been one.
    assert sum(2 * sum(lengths[place] for place in row) <= 20 for row in rows) <= 1


def test_padding_counts_nothing_and_is_a_sample_of_its_own() -> None:
    sample = Encoded(np.array([5, 6, 7]), np.array([CONTEXT | FIRST, CONTEXT, 0], dtype=np.uint8))
    (row,) = pack([sample], row_tokens=5, padding=9)
    assert row.tokens.tolist() == [5, 6, 7, 9, 9]
    assert row.marks.tolist() == [CONTEXT | FIRST, CONTEXT, 0, CONTEXT | FIRST, CONTEXT]
