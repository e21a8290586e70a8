"""Token files that become a prepared set: the same tokens, whatever interrupts the copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.prepare import load_pipeline, prepare
from trainer.data.prepare.pipeline import TokenPipeline, load_text_pipeline
from trainer.data.shards import ShardWriter
from trainer.data.tokenizer import load_tokenizer, tokenizer_fingerprint, train_bpe, vocabulary_size
from trainer.errors import UserError

LENGTH = 1000
FILES = ("tokens_train_0.npy", "tokens_train_1.npy", "tokens_val_0.npy")


@pytest.fixture
def pipeline(tmp_path: Path) -> TokenPipeline:
    tokenizer = train_bpe(["some words and more words " * 20], 280)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    random = np.random.default_rng(0)
    (tmp_path / "raw").mkdir()
    for name in FILES:
        np.save(tmp_path / "raw" / name, random.integers(0, vocabulary_size(tokenizer), LENGTH).astype(np.uint16))
    return TokenPipeline.model_validate(
        {
            "name": "ready",
            "output": str(tmp_path / "out"),
            "sources": [{"type": "tokens", "path": str(tmp_path / "raw")}],
            "tokenizer": {"type": "file", "path": str(tmp_path / "tokenizer.json")},
            "shard_tokens": 300,
        }
    )


def tokens_of(path: Path, split: str) -> list[int]:
    opened = open_tokens(Source(path=str(path)), split=split, sequence_length=1, cache=CacheConfig())
    rows = np.empty((opened.num_samples, 2), dtype=np.int64)
    opened.read(np.arange(opened.num_samples), rows)
    return [*rows[:, 0].tolist(), int(rows[-1, 1])]


def test_the_set_has_the_files_tokens_and_their_tokenizer(pipeline: TokenPipeline, tmp_path: Path) -> None:
    done = prepare(pipeline, tmp_path / "out")
    for split in ("train", "validation"):
        assert tokens_of(tmp_path / "out", split) == tokens_of(tmp_path / "raw", split)
    assert len(done.info.splits["train"].shards) > 3
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert done.info.tokenizer.vocab_size == vocabulary_size(tokenizer)
    assert done.info.tokenizer.fingerprint == tokenizer_fingerprint(tokenizer)
    assert prepare(pipeline, tmp_path / "out").skipped
    np.save(tmp_path / "raw" / FILES[0], np.zeros(LENGTH, dtype=np.uint16))
    with pytest.raises(UserError, match="from other inputs"):
        prepare(pipeline, tmp_path / "out")


def test_an_interrupted_copy_goes_on_to_the_same_bytes(
    pipeline: TokenPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(pipeline, tmp_path / "whole")
    finish, finished = ShardWriter._finish_shard, []

    def break_at_the_third(writer: Any) -> None:
        if len(finished) == 3:
            raise KeyboardInterrupt
        finish(writer)
        finished.append(writer)

    monkeypatch.setattr(ShardWriter, "_finish_shard", break_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(pipeline, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()
    monkeypatch.setattr(ShardWriter, "_finish_shard", finish)
    prepare(pipeline, tmp_path / "out")
    for file in (tmp_path / "whole").rglob("*.arrow"):
        assert file.read_bytes() == (tmp_path / "out" / file.relative_to(tmp_path / "whole")).read_bytes()


def test_ids_of_another_tokenizer_are_refused(pipeline: TokenPipeline, tmp_path: Path) -> None:
    np.save(tmp_path / "raw" / FILES[1], np.full(LENGTH, 280, dtype=np.uint16))
    with pytest.raises(UserError, match=r"tokens_train_1\.npy: token 0 has id 280"):
        prepare(pipeline, tmp_path / "out")


def test_validation_alone_is_refused(pipeline: TokenPipeline, tmp_path: Path) -> None:
    for name in FILES[:2]:
        (tmp_path / "raw" / name).unlink()
    with pytest.raises(UserError, match="gives no training tokens"):
        prepare(pipeline, tmp_path / "out")


def test_a_file_says_which_kind_of_pipeline_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(
        "name: t\noutput: out\nsources: [{type: tokens, path: raw}]\ntokenizer: {type: file, path: t.json}\n"
    )
    assert isinstance(load_pipeline(str(path)), TokenPipeline)
    with pytest.raises(UserError, match="has sources of tokens"):
        load_text_pipeline(str(path))
    path.write_text(path.read_text().replace("]", ", {type: text, path: texts}]"))
    with pytest.raises(UserError, match="sources"):
        load_pipeline(str(path))
    path.write_text("name: t\noutput: out\nsources: [{type: tokens, path: raw}]\ntokenizer: {type: bpe}\n")
    with pytest.raises(UserError, match="tokenizer"):
        load_pipeline(str(path))
