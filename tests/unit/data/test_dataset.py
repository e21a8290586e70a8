"""Opening sources and reading samples, across shards and formats; bad input by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.config import CacheConfig, DataConfig, Source
from trainer.data.dataset import TokenSplit, open_shards, open_tokens, open_training, open_validation, splits_of
from trainer.data.shards import MappedShard
from trainer.data.split import Shard
from trainer.errors import UserError


def open_path(path: Path | str, *, length: int = 7, split: str = "train", **source) -> TokenSplit:
    cache = CacheConfig(path=str(path) + "-cache") if "://" not in str(path) else CacheConfig()
    return open_tokens(Source(path=str(path), **source), split=split, sequence_length=length, cache=cache)


def read_all(split: TokenSplit) -> np.ndarray:
    out = np.empty((split.num_samples, split.sequence_length + 1), dtype=np.int64)
    split.read(np.arange(split.num_samples), out)
    return out


@given(st.lists(st.integers(0, 30), min_size=1, max_size=10), st.integers(1, 12))
def test_samples_are_windows_of_the_shards_laid_end_to_end(sizes: list[int], length: int) -> None:
    stream = np.arange(sum(sizes))
    parts = np.split(stream, np.cumsum(sizes)[:-1])
    shards = [Shard(str(i), len(p), len(p), lambda p=p: MappedShard([p])) for i, p in enumerate(parts)]
    expected = [stream[i : i + length + 1].tolist() for i in range(0, len(stream) - length, length)]
    if not expected:
        with pytest.raises(UserError, match=f"holds {len(stream)} tokens"):
            TokenSplit("s", shards, fingerprint="f", sequence_length=length)
        return
    split = TokenSplit("s", shards, fingerprint="f", sequence_length=length)
    assert read_all(split).tolist() == expected
    starts = np.searchsorted(np.cumsum(sizes), [row[0] for row in expected], side="right")
    assert split.shard_samples.tolist() == np.bincount(starts, minlength=len(sizes)).tolist()


def test_a_remote_shard_is_not_opened_again_for_the_sample_that_ends_in_it() -> None:
    opened = []
    parts = np.split(np.arange(60), [17, 20, 43])

    def opener(number: int):
        def open_shard() -> MappedShard:
            opened.append(number)
            return MappedShard([parts[number]])

        return open_shard

    shards = [Shard(str(i), len(part), len(part), opener(i)) for i, part in enumerate(parts)]
    split = TokenSplit("s", shards, fingerprint="f", sequence_length=7, remote_bytes=1000)
    read_all(split)
    opened.clear()
    split.prefetch((0,))
    out = np.empty((1, 8), dtype=np.int64)
    # The third sample goes on through the short shard 1 into shard 2.
    split.read(np.array([2]), out)
    split.close()
    assert out[0].tolist() == list(range(14, 22))
    assert opened == []


def test_a_prepared_set_knows_its_tokenizer_and_density(tmp_path: Path, write_set) -> None:
    info = write_set(tmp_path / "set", train=[60, 60, 31], validation=[20])
    split = open_path(tmp_path / "set")
    assert read_all(split).tolist() == [list(range(i, i + 8)) for i in range(0, 144, 7)]
    assert (split.num_tokens, split.num_samples, split.bytes_per_token) == (151, 21, 3.0)
    assert split.fingerprint == info.fingerprint
    assert split.tokenizer is not None
    assert (split.vocab_size, split.tokenizer.eos_id, split.tokenizer.path) == (1000, 0, None)
    assert not (tmp_path / "set-cache").exists()
    (tmp_path / "set" / "tokenizer.json").write_text("{}")
    reopened = open_path(tmp_path / "set").tokenizer
    assert reopened is not None
    assert reopened.path == str(tmp_path / "set" / "tokenizer.json")


def test_a_folder_of_raw_files_is_split_by_name(tmp_path: Path) -> None:
    for name, start in (("data_train_001.bin", 0), ("data_train_002.bin", 100), ("data_val_000.bin", 500)):
        np.arange(start, start + 100).astype("<u2").tofile(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not tokens")
    assert read_all(open_path(tmp_path))[:, 0].tolist() == list(range(0, 190, 7))
    assert read_all(open_path(tmp_path, split="validation"))[0].tolist() == list(range(500, 508))
    assert splits_of(Source(path=str(tmp_path))) == ("train", "validation")


@pytest.mark.parametrize(
    ("name", "validation"),
    [
        ("val.bin", True),
        ("fineweb_val_000000.bin", True),
        ("Validation-00.bin", True),
        ("valid1.bin", True),
        ("retrieval_000.bin", False),
        ("medieval.bin", False),
        ("evaluated.bin", False),
    ],
)
def test_validation_files_have_val_as_a_word_in_their_name(tmp_path: Path, name: str, validation: bool) -> None:
    for file in (name, "books.bin"):
        np.arange(100).astype("<u2").tofile(tmp_path / file)
    assert open_path(tmp_path).num_tokens == (100 if validation else 200)
    assert ("validation" in splits_of(Source(path=str(tmp_path)))) == validation


def test_a_single_raw_file_serves_any_split(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", np.arange(100, dtype=np.uint16))
    for split in ("train", "validation"):
        assert len(read_all(open_path(tmp_path / "all.npy", split=split))) == 14
    assert not (tmp_path / "all.npy-cache").exists()
    assert splits_of(Source(path=str(tmp_path / "all.npy"))) == ("train",)
    # In a folder its name says what it is for, also where it is alone.
    (tmp_path / "one").mkdir()
    np.save(tmp_path / "one" / "val.npy", np.arange(20, dtype=np.uint16))
    assert splits_of(Source(path=str(tmp_path / "one"))) == ("validation",)
    assert splits_of(Source(path=str(tmp_path / "one" / "val.npy"))) == ("train",)


def test_the_fingerprint_of_raw_files_follows_names_sizes_and_content(tmp_path: Path) -> None:
    seen = set()
    ids = np.arange(300_000) % 5000
    changed = ids.copy()
    changed[150_000] = 7
    for folder, name, content in (
        ("a", "x.bin", ids),
        ("b", "y.bin", ids),
        ("c", "x.bin", ids[:-1]),
        ("d", "x.bin", changed),
    ):
        (tmp_path / folder).mkdir()
        content.astype("<u2").tofile(tmp_path / folder / name)
        seen.add(open_path(tmp_path / folder).fingerprint)
    assert len(seen) == 4
    (tmp_path / "moved").mkdir()
    (tmp_path / "a" / "x.bin").rename(tmp_path / "moved" / "x.bin")
    assert open_path(tmp_path / "moved").fingerprint in seen


def test_validation_defaults_to_the_training_sources_own(tmp_path: Path, write_set) -> None:
    write_set(tmp_path / "both", train=[50], validation=[30])
    write_set(tmp_path / "one", train=[50])
    config = DataConfig(train=[str(tmp_path / "both"), str(tmp_path / "one")])
    assert [split.num_tokens for split in open_training(config, 7)] == [50, 50]
    assert [split.num_tokens for split in open_validation(config, 7)] == [30]
    named = DataConfig(train=str(tmp_path / "one"), validation={"path": str(tmp_path / "one"), "split": "train"})
    assert [split.num_tokens for split in open_validation(named, 7)] == [50]
    assert open_validation(DataConfig(train=str(tmp_path / "one")), 7) == []


def test_an_empty_validation_split_is_none(tmp_path: Path, write_set) -> None:
    write_set(tmp_path / "set", train=[50], validation=[])
    assert open_validation(DataConfig(train=str(tmp_path / "set")), 7) == []


def test_a_remote_set_is_read_through_the_cache(tmp_path: Path, write_set) -> None:
    write_set(tmp_path / "set", train=[60, 60, 31])
    memory = MemoryFileSystem()
    memory.put(str(tmp_path / "set"), "/remote-set", recursive=True)
    cache = CacheConfig(path=str(tmp_path / "cache"))
    split = open_tokens(Source(path="memory://remote-set"), split="train", sequence_length=7, cache=cache)
    split.prefetch([1, 0])
    assert np.array_equal(read_all(split), read_all(open_path(tmp_path / "set")))
    split.close()
    files = [path for path in (tmp_path / "cache").iterdir() if path.is_file()]
    assert sorted(path.name[-17:] for path in files) == ["shard-00000.arrow", "shard-00001.arrow", "shard-00002.arrow"]


def test_a_remote_archive_is_unpacked_once(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "t.npz", a=np.arange(100, dtype=np.uint16))
    MemoryFileSystem().put(str(tmp_path / "t.npz"), "/remote.npz")
    for _ in range(2):
        cache = CacheConfig(path=str(tmp_path / "cache"))
        split = open_tokens(Source(path="memory://remote.npz"), split="train", sequence_length=7, cache=cache)
        assert read_all(split)[-1].tolist() == list(range(91, 99))
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_file()]) == 2


def test_files_of_nested_folders_are_one_set(tmp_path: Path) -> None:
    """Equal names in two folders are two shards; what a download keeps beside its files is not looked at."""
    for number, name in enumerate(["b/shard_0.npz", "a/shard_0.npz", "val/val_0.npz", ".fetch/parts/x.npz"]):
        (tmp_path / name).parent.mkdir(parents=True)
        np.savez_compressed(tmp_path / name, tokens=np.full(30, number, dtype=np.uint16))
    (tmp_path / "SHA256SUMS").touch()
    shards = open_shards(Source(path=str(tmp_path)), split="train", cache=CacheConfig(path=str(tmp_path / "cache")))
    assert [shard.name for shard in shards.shards] == ["a/shard_0.npz", "b/shard_0.npz"]
    MemoryFileSystem().put(str(tmp_path), "/nested", recursive=True)
    cache = CacheConfig(path=str(tmp_path / "cache"))
    split = open_tokens(Source(path="memory://nested"), split="train", sequence_length=7, cache=cache)
    assert set(np.concatenate(read_all(split)).tolist()) == {0, 1}


def test_missing_things_are_named(tmp_path: Path, write_set) -> None:
    write_set(tmp_path / "set", train=[50])
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    for name in ("a.bin", "b.npy"):
        (tmp_path / "mixed" / name).touch()
    np.arange(50).astype("<u2").tofile(tmp_path / "train.bin")
    cases = [
        (lambda: open_path(tmp_path / "none"), "none does not exist"),
        (lambda: open_path(tmp_path / "empty"), r"empty holds no token files \(nothing\)"),
        (lambda: open_path(tmp_path / "empty", format="arrow"), "holds no dataset.json"),
        (lambda: open_path(tmp_path / "set", split="test"), "has no split 'test'"),
        (lambda: open_path(tmp_path / "mixed"), "several formats: bin, npy"),
        (lambda: open_path(tmp_path / "set", length=50), r"set \(train\) holds 50 tokens"),
        (lambda: open_path("nosuch://x"), "nosuch://x"),
    ]
    for work, message in cases:
        with pytest.raises(UserError, match=message):
            work()


def test_a_folder_without_files_of_the_split_is_refused(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        np.arange(50).astype("<u2").tofile(tmp_path / name)
    with pytest.raises(UserError, match=r"no files of the split 'validation': a\.bin, b\.bin"):
        open_path(tmp_path, split="validation")


def test_raw_files_that_vanish_during_a_run_are_named(tmp_path: Path) -> None:
    ids = np.arange(100).astype("<u2")
    ids.tofile(tmp_path / "t.bin")
    MemoryFileSystem().pipe_file("/vanishing/t.bin", ids.tobytes())
    MemoryFileSystem().pipe_file("/vanishing/other", b"")
    local = open_path(tmp_path / "t.bin")
    remote = open_tokens(
        Source(path="memory://vanishing/t.bin"),
        split="train",
        sequence_length=7,
        cache=CacheConfig(path=str(tmp_path / "cache")),
    )
    (tmp_path / "t.bin").unlink()
    MemoryFileSystem().rm("/vanishing/t.bin")
    with pytest.raises(UserError, match=r"t\.bin is gone"):
        read_all(local)
    with pytest.raises(UserError, match=r"memory://vanishing/t\.bin is gone"):
        read_all(remote)


def test_files_behind_symbolic_links_are_read(tmp_path: Path, write_set) -> None:
    info = write_set(tmp_path / "set", train=[50, 50])
    expected = read_all(open_path(tmp_path / "set"))
    for shard in info.splits["train"].shards:
        path = tmp_path / "set" / shard.file
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    assert np.array_equal(read_all(open_path(tmp_path / "set")), expected)


def test_damaged_shards_are_named(tmp_path: Path, write_set) -> None:
    info = write_set(tmp_path / "set", train=[50, 50])
    shard = tmp_path / "set" / info.splits["train"].shards[1].file
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-8])
    # Before anything is read: the first step comes days before the last shard.
    with pytest.raises(UserError, match=rf"shard-00001\.arrow has {len(whole) - 8} bytes"):
        open_path(tmp_path / "set")
    shard.unlink()
    with pytest.raises(UserError, match=r"shard-00001\.arrow is missing"):
        open_path(tmp_path / "set")
    write_set(tmp_path / "other", train=[50, 49])
    raw = json.loads((tmp_path / "set" / "dataset.json").read_bytes())
    other = (tmp_path / "other" / "train" / "shard-00001.arrow").read_bytes()
    assert len(other) == raw["splits"]["train"]["shards"][1]["bytes"], "the case is about equal sizes"
    shard.write_bytes(other)
    with pytest.raises(UserError, match=r"shard-00001\.arrow holds 49 tokens"):
        read_all(open_path(tmp_path / "set"))
