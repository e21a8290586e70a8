"""Pipelines: from text to a set that opens; repeated, changed, interrupted and foreign outputs."""

from __future__ import annotations

import errno
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.inspect import inspect_data
from trainer.data.prepare import Pipeline, load_pipeline, prepare
from trainer.data.shards import ShardWriter
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
    (tmp_path / "out" / "prepare.json").write_text(
        json.dumps({"inputs_sha256": json.loads((tmp_path / "out" / "prepare.json").read_bytes())["inputs_sha256"]})
    )
    (tmp_path / "out" / "train" / "shard-00099.arrow").touch()
    (tmp_path / "out" / "notes.md").write_text("mine")
    again = prepare(pipeline, tmp_path / "out")
    assert (again.skipped, again.info.fingerprint) == (False, first.info.fingerprint)
    assert not (tmp_path / "out" / "train" / "shard-00099.arrow").exists()
    assert (tmp_path / "out" / "notes.md").exists()


class Stopped(BaseException):
    """Ends a preparation as Ctrl+C does."""


def stop_after(monkeypatch: pytest.MonkeyPatch, num_documents: int, error: BaseException | None = None) -> None:
    left, extend = iter(range(num_documents)), ShardWriter.extend

    def extend_or_stop(self: ShardWriter, tokens: Any, lengths: Any, text_bytes: Any) -> None:
        ends = np.cumsum([0, *lengths])
        for document, size in enumerate(text_bytes):
            if next(left, None) is None:
                raise error or Stopped
            extend(self, tokens[ends[document] : ends[document + 1]], lengths[document : document + 1], [size])

    monkeypatch.setattr(ShardWriter, "extend", extend_or_stop)


def test_what_an_interrupted_preparation_finished_is_kept(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prepare(pipeline, tmp_path / "alone").info
    folder = tmp_path / "out"
    with monkeypatch.context() as patched:
        stop_after(patched, 120)
        with pytest.raises(Stopped):
            prepare(pipeline, folder)
    assert not (folder / "dataset.json").exists()
    marked = json.loads((folder / "prepare.json").read_bytes())["shards"]
    kept_documents = sum(shard["documents"] for shards in marked.values() for shard in shards)
    kept = {path: path.stat().st_ino for path in (folder / "train").iterdir()}
    assert len(kept) == len(marked["train"]) > 1
    kept[folder / "tokenizer.json"] = (folder / "tokenizer.json").stat().st_ino
    with monkeypatch.context() as patched:
        stop_after(patched, DOCUMENTS - DOCUMENTS // 10 - kept_documents)
        done = prepare(pipeline, folder)
    assert {path: path.stat().st_ino for path in kept} == kept
    assert (done.skipped, done.info.fingerprint) == (False, expected.fingerprint)
    assert inspect_data(str(folder), verify=True).fingerprint == expected.fingerprint


def test_a_shard_that_was_damaged_after_an_interruption_is_made_again(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prepare(pipeline, tmp_path / "alone").info
    with monkeypatch.context() as patched:
        stop_after(patched, 120)
        with pytest.raises(Stopped):
            prepare(pipeline, tmp_path / "out")
    shard = tmp_path / "out" / "train" / "shard-00001.arrow"
    shard.write_bytes(bytes(shard.stat().st_size))
    assert prepare(pipeline, tmp_path / "out").info.fingerprint == expected.fingerprint


@pytest.mark.parametrize("name", ["train/shard-00001.arrow", "tokenizer.json", "dataset.json"])
def test_a_complete_output_that_lost_a_file_is_made_whole(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    first = prepare(pipeline, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    again = prepare(pipeline, tmp_path / "out")
    assert (again.skipped, again.info.fingerprint) == (False, first.info.fingerprint)
    assert inspect_data(str(tmp_path / "out"), verify=True).splits[0].tokens == first.info.splits["train"].tokens


def test_a_truncated_shard_is_made_again(pipeline: Pipeline, tmp_path: Path) -> None:
    first = prepare(pipeline, tmp_path / "out")
    shard = tmp_path / "out" / "train" / "shard-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert prepare(pipeline, tmp_path / "out").info.fingerprint == first.info.fingerprint
    assert inspect_data(str(tmp_path / "out"), verify=True).fingerprint == first.info.fingerprint


def test_of_two_preparations_at_once_one_waits_and_finds_the_set(pipeline: Pipeline, tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def run() -> bool:
        together.wait()
        return prepare(pipeline, tmp_path / "out").skipped

    with ThreadPoolExecutor(2) as pool:
        skipped = [future.result() for future in [pool.submit(run) for _ in range(2)]]
    assert sorted(skipped) == [False, True]
    inspect_data(str(tmp_path / "out"), verify=True)


def test_a_full_disk_is_named_and_what_was_finished_kept(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 120, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(UserError, match=rf"{tmp_path}/out: No space left on device; its disk has \d+ bytes free"):
            prepare(pipeline, tmp_path / "out")
    assert len(list((tmp_path / "out" / "train").iterdir())) > 1
    assert prepare(pipeline, tmp_path / "out").info.splits["train"].tokens > 0


def test_a_foreign_folder_is_not_touched(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds files that preparation did not write: thesis\.tex"):
        prepare(pipeline, tmp_path / "out")
    with pytest.raises(UserError, match="is a file"):
        prepare(pipeline, tmp_path / "out" / "thesis.tex")


def test_places_that_cannot_be_written_are_refused_first(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="output s3:/bucket/set is a URL"):
        prepare(pipeline, Path("s3://bucket/set"))
    for cleaned, output, found in (
        ("s3://bucket/text", "out", "cleaned s3:/bucket/text is a URL"),
        (str(tmp_path / "out"), "out", "cleaned .*/out is output"),
        (str(tmp_path), "a/b", "cleaned .* holds output"),
    ):
        with pytest.raises(UserError, match=found):
            prepare(pipeline.model_copy(update={"cleaned": cleaned}), tmp_path / output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts"]


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
    with pytest.raises(UserError, match="leaves no text of 1 documents: utf-8 dropped 1"):
        prepare(pipeline, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_shipped_pipelines_are_found_by_name() -> None:
    loaded = load_pipeline("python-library")
    assert (loaded.name, loaded.output) == ("python-library", "data/python-library")


def test_keys_of_a_pipeline_are_changed_one_by_one_or_by_a_file(tmp_path: Path) -> None:
    small = tmp_path / "small.yaml"
    small.write_text("sources: [{type: python-library}]\ntokenizer: {type: bpe, vocab_size: 512}\n")
    loaded = load_pipeline("fineweb-edu-10b", [f"@{small}", "shard_tokens=1000"])
    assert isinstance(loaded, Pipeline)
    assert [source.type for source in loaded.sources] == ["python-library"]
    assert (loaded.tokenizer.type, loaded.shard_tokens) == ("bpe", 1000)
    assert not loaded.duplicates.exact, "what the file does not name stays"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "output: missing; sources: missing; tokenizer: missing"),
        ("[]\n", "a list, not a mapping"),
        ("", "empty"),
        (
            "name: x\nsources: [{type: webb}]\n",
            "sources.0.type: found 'webb'; expected one of 'python-library', 'text'",
        ),
        ("name: x\nnmae: x\n", "nmae: unknown key; did you mean `name`?"),
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


def test_a_flipped_bit_is_found_by_hash(pipeline: Pipeline, tmp_path: Path) -> None:
    info = prepare(pipeline, tmp_path / "out").info
    shard = tmp_path / "out" / info.splits["train"].shards[-1].file
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=rf"{shard.name} has sha256") as caught:
        inspect_data(str(tmp_path / "out"), verify=True)
    assert info.splits["train"].shards[-1].sha256 in str(caught.value)
