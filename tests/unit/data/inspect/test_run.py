"""Inspection of prepared sets: every figure against the tokens read one by one, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import typing
from collections import Counter
from itertools import pairwise
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel

from trainer.data.inspect import Report, inspect_data
from trainer.data.shards import DatasetInfo, ShardInfo, file_sha256, load_dataset_json, write_dataset_json
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import UserError

PAGE = Path(__file__).parents[4] / "docs" / "data-inspect.md"


def described(folder: Path) -> DatasetInfo:
    return load_dataset_json((folder / "dataset.json").read_bytes(), "dataset.json")


def documents(folder: Path, split: str) -> list[list[int]]:
    rows: list[list[int]] = []
    for shard in described(folder).splits[split].shards:
        with pa.memory_map(str(folder / shard.file)) as file:
            rows += pa.ipc.open_file(file).read_all().column("tokens").to_pylist()
    return rows


def test_figures_are_those_of_the_tokens(prepared: Path) -> None:
    info, report = described(prepared), inspect_data(str(prepared), verify=True)
    assert (report.name, report.fingerprint, report.path) == ("small", info.fingerprint, str(prepared))
    assert report.verified_shards == sum(len(split.shards) for split in info.splits.values())
    assert [one.model_dump() for one in report.filters] == [
        {"name": "utf-8", "seen": 61, "dropped": 1, "share": 1 / 61}
    ]
    assert [split.name for split in report.splits] == ["train", "validation"]
    for split in report.splits:
        rows = documents(prepared, split.name)
        sizes = sorted(len(row) for row in rows)
        assert (split.tokens, split.documents) == (sum(sizes), len(rows))
        assert split.bytes_per_token == pytest.approx(
            sum(s.text_bytes for s in info.splits[split.name].shards) / sum(sizes)
        )
        assert (split.read.complete, split.read.share, split.read.tokens) == (True, 1.0, sum(sizes))
        lengths = split.lengths
        assert lengths is not None
        assert (lengths.shortest, lengths.longest, lengths.mean) == (sizes[0], sizes[-1], pytest.approx(np.mean(sizes)))
        assert lengths.p50 == np.percentile(sizes, 50, method="inverted_cdf")
        assert lengths.p95 == np.percentile(sizes, 95, method="inverted_cdf")
        assert all(a.stop == b.start for a, b in pairwise(lengths.histogram))
        for bucket in lengths.histogram:
            inside = [size for size in sizes if bucket.start <= size < bucket.stop]
            assert (bucket.documents, bucket.tokens) == (len(inside), sum(inside))


def test_vocabulary_use_is_that_of_the_tokens(prepared: Path) -> None:
    tokenizer = load_tokenizer(prepared / "tokenizer.json")
    split = inspect_data(str(prepared)).splits[0]
    counts = Counter(token for row in documents(prepared, "train") for token in row)
    vocabulary = split.vocabulary
    assert vocabulary is not None
    assert (vocabulary.size, vocabulary.used, vocabulary.never_used) == (300, len(counts), 300 - len(counts))
    never = {number for first, last in vocabulary.never_used_ids for number in range(first, last + 1)}
    assert never == set(range(300)) - set(counts)
    assert [one.count for one in vocabulary.most_used] == [count for _, count in counts.most_common(20)]
    assert [one.count for one in vocabulary.least_used] == sorted(counts.values())[:20]
    assert all(one.count == counts[one.id] for one in (*vocabulary.most_used, *vocabulary.least_used))
    words = {one.id: one.token for one in vocabulary.most_used}
    assert words[tokenizer.token_to_id("<|endoftext|>")] == "<|endoftext|>"
    assert " says" in words.values() or " s" in words.values()
    assert vocabulary.used_once == sum(count == 1 for count in counts.values())
    assert vocabulary.used_below_100 == sum(count < 100 for count in counts.values())
    ordered = sorted(counts.values(), reverse=True)
    half = next(n for n in range(len(ordered)) if 2 * sum(ordered[: n + 1]) >= sum(ordered)) + 1
    assert vocabulary.ids_for_50_percent == half
    shares = np.array(ordered) / sum(ordered)
    assert vocabulary.entropy_bits == pytest.approx(-(shares * np.log2(shares)).sum())
    assert vocabulary.ranks[0].count == ordered[0]
    assert (vocabulary.ranks[-1].rank, vocabulary.ranks[-1].count) == (len(ordered), ordered[-1])


def test_repeats_and_samples_are_documents_of_the_set(prepared: Path) -> None:
    tokenizer = load_tokenizer(prepared / "tokenizer.json")
    report = inspect_data(str(prepared), samples=4)
    repeated = [split.repeats for split in report.splits if split.repeats is not None and split.repeats.repeats]
    assert len(repeated) == 1, "all copies of a text go to one split"
    (most,) = repeated[0].most_repeated
    assert (repeated[0].repeats, repeated[0].documents - repeated[0].distinct, most.times) == (4, 4, 5)
    assert most.sample.text is not None
    assert most.sample.text.startswith("\x1b[31mred")
    for split in report.splits:
        texts = [tokenizer.decode(row[:-1], skip_special_tokens=False) for row in documents(prepared, split.name)]
        assert len({sample.text for sample in split.samples}) == 4
        for sample in split.samples:
            assert sample.text is not None
            assert any(text.startswith(sample.text) and sample.cut == (text != sample.text) for text in texts)
        assert split.samples == inspect_data(str(prepared), samples=4, split=split.name).splits[0].samples


def test_a_sample_of_shards_is_said_to_be_one(prepared: Path) -> None:
    shards = described(prepared).splits["train"].shards
    assert len(shards) > 3
    report = inspect_data(str(prepared), split="train", sampled_tokens=2 * shards[0].tokens)
    (split,) = report.splits
    assert (split.read.complete, split.tokens) == (False, sum(shard.tokens for shard in shards))
    assert 1 <= split.read.shards < len(shards)
    assert split.read.share == split.read.tokens / split.tokens < 1
    assert split.lengths is not None
    assert sum(bucket.documents for bucket in split.lengths.histogram) == split.read.documents
    full = inspect_data(str(prepared), split="train", sampled_tokens=1, full=True)
    assert (full.splits[0].read.complete, full.splits[0].read.tokens) == (True, split.tokens)


def test_text_that_is_also_trained_on_is_counted(tmp_path: Path, write_set) -> None:
    write_set(tmp_path / "set", train=[10, 12, 30], validation=[10, 12, 5])
    train, validation = inspect_data(str(tmp_path / "set")).splits
    assert train.also_in_train is None
    assert validation.also_in_train is not None
    assert (validation.also_in_train.found, validation.also_in_train.documents) == (2, 3)


def test_a_remote_set_gives_the_figures_of_the_local_one(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fsspec.filesystem("memory").put(f"{prepared}/", "/inspect/set", recursive=True)
    remote = inspect_data("memory://inspect/set", verify=True)
    local = inspect_data(str(prepared), verify=True)
    assert {**remote.as_dict(), "path": local.path} == local.as_dict()
    fsspec.filesystem("memory").rm("/inspect", recursive=True)


def test_a_set_without_its_tokenizer_shows_ids(prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "set")
    (folder / "tokenizer.json").unlink()
    split = inspect_data(str(folder)).splits[0]
    assert split.samples[0].text is None
    heads = [tuple(row[:64]) for row in documents(folder, "train")]
    assert all(sample.ids in heads for sample in split.samples)
    assert split.vocabulary is not None
    assert (split.vocabulary.size, split.vocabulary.most_used[0].token) == (300, None)
    named = inspect_data(str(folder), tokenizer=str(prepared))
    assert named.splits == inspect_data(str(prepared)).splits


def test_an_empty_split_is_told_and_does_not_stop_the_rest(tmp_path: Path, write_set) -> None:
    write_set(tmp_path / "set", train=[10, 12], validation=[])
    train, validation = inspect_data(str(tmp_path / "set")).splits
    assert (train.tokens, validation.tokens, validation.documents) == (22, 0, 0)
    assert (validation.lengths, validation.vocabulary, validation.repeats, validation.samples) == (None, None, None, ())
    with pytest.raises(UserError, match="the split 'validation' is empty") as caught:
        inspect_data(str(tmp_path / "set"), split="validation")
    assert caught.value.expected == "a split with tokens: train"
    write_set(tmp_path / "nothing", train=[])
    with pytest.raises(UserError, match="nothing holds no tokens"):
        inspect_data(str(tmp_path / "nothing"))


def test_a_set_of_one_token_is_shown(tmp_path: Path, write_set) -> None:
    write_set(tmp_path / "set", train=[1])
    (split,) = inspect_data(str(tmp_path / "set")).splits
    assert split.vocabulary is not None
    assert (split.tokens, split.vocabulary.used, split.vocabulary.entropy_bits) == (1, 1, 0.0)


def test_an_unknown_split_lists_the_known_ones(prepared: Path) -> None:
    with pytest.raises(UserError, match="has no split 'test'") as caught:
        inspect_data(str(prepared), split="test")
    assert caught.value.expected == "one of train, validation"


def test_folders_that_are_no_sets_are_refused(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nosuch does not exist"):
        inspect_data(str(tmp_path / "nosuch"))
    (tmp_path / "notes.txt").write_text("no tokens")
    with pytest.raises(UserError, match=r"holds no token files \(notes\.txt\)"):
        inspect_data(str(tmp_path))
    folder = shutil.copytree(prepared, tmp_path / "set")
    (folder / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"has no dataset\.json: its preparation did not end") as caught:
        inspect_data(str(folder))
    assert "goes on where it stopped" in caught.value.fix


def test_another_tokenizer_is_refused_with_both_fingerprints(prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "set")
    other = json.loads((folder / "tokenizer.json").read_bytes())
    other["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"set/tokenizer\.json is another tokenizer: it has fingerprint") as caught:
        inspect_data(str(folder))
    assert described(folder).tokenizer.fingerprint in caught.value.expected


def test_a_missing_and_a_truncated_shard_are_named(prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "set")
    shard = folder / described(folder).splits["train"].shards[1].file
    content = shard.read_bytes()
    shard.write_bytes(content[:-8])
    with pytest.raises(UserError, match=rf"shard {shard} has {len(content) - 8} bytes"):
        inspect_data(str(folder))
    shard.unlink()
    with pytest.raises(UserError, match=rf"shard {shard} is missing"):
        inspect_data(str(folder))


def replace_shard(folder: Path, rows: list[list[int]], **changes: int) -> Path:
    """Put another first shard into a set, whose size and hash fit."""
    info = described(folder)
    shard = info.splits["train"].shards[0]
    path = folder / shard.file
    batch = pa.record_batch([pa.array(rows, pa.list_(pa.uint16()))], names=["tokens"])
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    known = {"tokens": sum(map(len, rows)), "documents": len(rows), "bytes": path.stat().st_size, **changes}
    replaced = ShardInfo.model_validate({**shard.model_dump(), "sha256": file_sha256(path), **known})
    split = type(info.splits["train"]).of([replaced, *info.splits["train"].shards[1:]])
    write_dataset_json(folder, info.model_copy(update={"splits": {**info.splits, "train": split}}))
    return path


def test_damage_inside_a_shard_is_named(tmp_path: Path, write_set) -> None:
    folder = tmp_path / "set"
    write_set(folder, train=[30, 30, 30], vocab_size=100)
    path = replace_shard(folder, [[1, 2], [3, 100]])
    with pytest.raises(UserError, match=rf"shard {path} is damaged: it has id 100 at token 3") as caught:
        inspect_data(str(folder))
    assert "ids below 100" in caught.value.expected
    replace_shard(folder, [[1, 2], [3, 4]], documents=3)
    with pytest.raises(UserError, match=rf"shard {path} is damaged: it has 2 documents") as caught:
        inspect_data(str(folder))
    assert "3 documents" in caught.value.expected
    content = bytearray(path.read_bytes())
    offsets = np.array([0, 2, 4], dtype=np.int32).tobytes()
    place = content.index(offsets)
    content[place + 4 : place + 8] = np.int32(5).tobytes()
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"shard {path} is damaged: it has documents that overlap"):
        inspect_data(str(folder))


def test_filters_that_say_something_else_are_refused(tmp_path: Path, write_set) -> None:
    info = write_set(tmp_path / "set", train=[10])
    write_dataset_json(tmp_path / "set", info.model_copy(update={"filters": ({"name": "short"},)}))
    with pytest.raises(UserError, match=r"set/dataset\.json: filters\.0 is \{'name': 'short'\}"):
        inspect_data(str(tmp_path / "set"))


def names_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Paths of all fields below a model, `[]` behind lists."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(f"{prefix}{name}")
        for part in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                is_list = typing.get_origin(field.annotation) is tuple
                found |= names_of(part, f"{prefix}{name}{'[]' if is_list else ''}.")
    return found


def test_every_name_of_the_json_is_documented() -> None:
    rows = re.findall(r"(?m)^\| (`.*?`) \|", PAGE.read_text(encoding="utf-8"))
    documented = {name for row in rows for name in re.findall(r"`(.*?)`", row) if not name.startswith("--")}
    # Samples are explained once.
    names = {name for name in names_of(Report) if ".most_repeated[].sample." not in name}
    assert documented == names
