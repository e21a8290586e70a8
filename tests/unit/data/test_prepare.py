"""Pipelines: from text to a set that opens; repeated, changed, interrupted and foreign outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.inspect import inspect_data
from trainer.data.prepare import Pipeline, load_pipeline, prepare
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import UserError

DOCUMENTS = 200


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """A small text pipeline; a tenth of the documents are duplicates, one is not UTF-8."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(DOCUMENTS):
        text = f"Document {number // 10 * 10 if number % 10 == 9 else number} says é and <|endoftext|>.\n" * 5
        (folder / f"{number:03d}.txt").write_text(text, encoding="utf-8")
    (folder / "latin.txt").write_bytes(b"\xff")
    return Pipeline.model_validate(
        {
            "name": "small",
            "output": str(tmp_path / "out"),
            "sources": [{"type": "text", "path": str(folder)}],
            "tokenizer": {"type": "bpe", "vocab_size": 300, "sample_bytes": 20_000},
            "validation_fraction": 0.2,
            "shard_tokens": 2000,
        }
    )


def test_every_document_comes_back_once_with_an_end_of_text_token(pipeline: Pipeline, tmp_path: Path) -> None:
    done = prepare(pipeline, tmp_path / "out")
    assert [dict(entry) for entry in done.info.filters] == [
        {"name": "utf-8", "seen": DOCUMENTS + 1, "dropped": 1},
        {"name": "exact-duplicate", "seen": DOCUMENTS, "dropped": DOCUMENTS // 10},
    ]
    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizer.json")
    texts = []
    for name, split in done.info.splits.items():
        opened = open_tokens(
            Source(path=str(tmp_path / "out")), split=name, sequence_length=split.tokens - 1, cache=CacheConfig()
        )
        row = np.empty((1, split.tokens), dtype=np.int64)
        opened.read(np.array([0]), row)
        pieces = np.split(row[0], np.flatnonzero(row[0] == done.info.tokenizer.eos_id) + 1)
        assert len(pieces[-1]) == 0
        assert len(pieces) - 1 == split.documents
        texts += [tokenizer.decode(piece[:-1].tolist(), skip_special_tokens=False) for piece in pieces[:-1]]
        assert sum(shard.text_bytes for shard in split.shards) == sum(
            len(t.encode()) for t in texts[-split.documents :]
        )
    expected = {path.read_text() for path in (tmp_path / "texts").glob("[0-9]*.txt")}
    assert sorted(texts) == sorted(expected)
    assert len(done.info.splits["train"].shards) > 1
    assert 0.1 < done.info.splits["validation"].documents / len(texts) < 0.3


def test_a_complete_output_is_left_alone_and_made_the_same_elsewhere(pipeline: Pipeline, tmp_path: Path) -> None:
    first = prepare(pipeline, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = prepare(pipeline, tmp_path / "out")
    assert (first.skipped, again.skipped) == (False, True)
    assert again.info == first.info
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    assert prepare(pipeline, tmp_path / "elsewhere").info.fingerprint == first.info.fingerprint


def test_other_inputs_need_to_be_told_to_replace(pipeline: Pipeline, tmp_path: Path) -> None:
    first = prepare(pipeline, tmp_path / "out")
    (tmp_path / "texts" / "new.txt").write_text("new")
    with pytest.raises(UserError, match="holds a data set from other inputs"):
        prepare(pipeline, tmp_path / "out")
    assert prepare(pipeline, tmp_path / "out", replace=True).info.fingerprint != first.info.fingerprint


def test_an_interrupted_output_is_started_again(pipeline: Pipeline, tmp_path: Path) -> None:
    first = prepare(pipeline, tmp_path / "out")
    (tmp_path / "out" / "dataset.json").unlink()
    (tmp_path / "out" / "train" / "shard-00099.arrow").touch()
    (tmp_path / "out" / "notes.md").write_text("mine")
    again = prepare(pipeline, tmp_path / "out")
    assert (again.skipped, again.info.fingerprint) == (False, first.info.fingerprint)
    assert not (tmp_path / "out" / "train" / "shard-00099.arrow").exists()
    assert (tmp_path / "out" / "notes.md").exists()


def test_a_foreign_folder_is_not_touched(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds files that preparation did not write: thesis\.tex"):
        prepare(pipeline, tmp_path / "out")
    with pytest.raises(UserError, match="is a file"):
        prepare(pipeline, tmp_path / "out" / "thesis.tex")


def test_a_tokenizer_of_ones_own_is_used(pipeline: Pipeline, tmp_path: Path) -> None:
    first = prepare(pipeline, tmp_path / "out")
    path = tmp_path / "out" / "tokenizer.json"
    own = Pipeline.model_validate({**pipeline.model_dump(), "tokenizer": {"type": "file", "path": str(path)}})
    second = prepare(own, tmp_path / "own")
    assert second.info.tokenizer.fingerprint == first.info.tokenizer.fingerprint
    assert second.info.splits == first.info.splits


def test_sources_without_training_text_are_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    for path in (tmp_path / "texts").glob("[0-9]*.txt"):
        path.unlink()
    with pytest.raises(UserError, match="gives no training tokens from 1 documents"):
        prepare(pipeline, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_shipped_pipelines_are_found_by_name() -> None:
    loaded = load_pipeline("python-library")
    assert (loaded.name, loaded.output) == ("python-library", "data/python-library")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "output: Field required"),
        ("[]\n", "Input should be"),
        ("name: x\nsources: [{type: webb}]\n", "sources.0: Input tag 'webb'"),
        ("name: x\nnmae: x\n", "nmae: Extra inputs"),
    ],
)
def test_a_wrong_pipeline_is_refused_with_all_complaints(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_pipeline(str(path))
    assert message in str(caught.value)


def test_an_unknown_pipeline_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="no pipeline nosuch") as caught:
        load_pipeline("nosuch")
    assert "python-library" in str(caught.value)


def test_inspection_shows_totals_text_and_damage(pipeline: Pipeline, tmp_path: Path) -> None:
    info = prepare(pipeline, tmp_path / "out").info
    report = inspect_data(str(tmp_path / "out"), verify=True)
    assert report.verified_shards == sum(len(split.shards) for split in info.splits.values())
    assert {split.name: split.tokens for split in report.splits} == {n: s.tokens for n, s in info.splits.items()}
    assert report.splits[0].sample.startswith("Document ")
    assert json.loads(json.dumps(report.as_dict()))["fingerprint"] == info.fingerprint
    assert f"{info.splits['train'].tokens:,} tokens" in report.as_text()
    shard = tmp_path / "out" / info.splits["train"].shards[-1].file
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=rf"{shard.name} has sha256") as caught:
        inspect_data(str(tmp_path / "out"), verify=True)
    assert info.splits["train"].shards[-1].sha256 in str(caught.value)


def test_inspection_of_raw_files(tmp_path: Path) -> None:
    np.arange(100).astype("<u2").tofile(tmp_path / "t.bin")
    report = inspect_data(str(tmp_path / "t.bin"))
    assert (report.name, report.vocab_size, report.splits[0].tokens) == (None, None, 100)
    assert report.splits[0].sample.startswith("0 1 2")
    assert "raw token files" in report.as_text()
    with pytest.raises(UserError, match="to verify against"):
        inspect_data(str(tmp_path / "t.bin"), verify=True)
