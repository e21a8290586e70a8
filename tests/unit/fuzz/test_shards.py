"""Token files that are damaged, or are no token files: opened or refused in words, never anything else."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fuzz.mutations import changed, damaged, few
from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_shards, open_tokens
from trainer.data.shards import (
    DatasetInfo,
    ShardWriter,
    SplitInfo,
    TokenizerRecord,
    fingerprint,
    load_dataset_json,
    write_dataset_json,
)
from trainer.errors import UserError

IDS = (np.arange(300) % 200).astype("<u2")


def llmc(magic: int, version: int, dtype: str) -> bytes:
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, version, len(IDS)
    return header.tobytes() + IDS.astype(dtype).tobytes()


def saved(save: Any, *arrays: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    save(stream, *arrays)
    return stream.getvalue()


FILES = {
    "nano.bin": IDS.tobytes(),
    "llmc.bin": llmc(20240520, 1, "<u2"),
    "llama.bin": llmc(20240801, 7, "<u4"),
    "array.npy": saved(np.save, IDS),
    "stored.npz": saved(np.savez, IDS, IDS[:7]),
    "packed.npz": saved(np.savez_compressed, IDS, IDS[:7]),
}


def read_all(folder: Path, path: Path, split: str = "train") -> None:
    """Open a source and copy every token of it; UserError is fine, anything else is not."""
    cache = CacheConfig(path=str(folder / "cache"), max_bytes=1 << 20)
    with contextlib.suppress(UserError):
        found = open_shards(Source(path=str(path)), split=split, cache=cache)
        for shard in found.shards:
            mapped = shard.open()
            assert mapped.num_tokens == shard.tokens
            mapped.copy_to(0, np.empty(mapped.num_tokens, dtype=np.int64))
        open_tokens(Source(path=str(path)), split=split, sequence_length=8, cache=cache)


@pytest.mark.parametrize("name", FILES)
@few
@given(data=st.data())
def test_raw_files(name: str, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / name
    path.write_bytes(data.draw(damaged(FILES[name]) | st.binary(max_size=64)))
    read_all(tmp_path, path)


@few
@given(count=st.integers(-(2**31), 2**31 - 1), size=st.integers(0, 2000))
def test_llmc_headers_that_lie(tmp_path: Path, count: int, size: int) -> None:
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, count
    path = tmp_path / "x.bin"
    for body in (size, max(0, 2 * count) % 4096, 1024 + 2 * count if -512 <= count < 0 else size):
        path.write_bytes((header.tobytes() + b"\1" * 4096)[: 1024 + body if body == size else body])
        read_all(tmp_path, path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    splits = {}
    for split in ("train", "validation"):
        shards: list[Any] = []
        with ShardWriter(
            folder,
            split,
            dtype="uint16",
            shard_tokens=60,
            on_finish=lambda found, kept=shards: kept.__setitem__(slice(None), found),
        ) as writer:
            for start in range(0, 150, 15):
                writer.add(IDS[start : start + 15], 40)
        splits[split] = SplitInfo.of(shards)
    tokenizer = TokenizerRecord(name="t", fingerprint="f", vocab_size=256, eos_id=0)
    info = DatasetInfo(name="s", tokenizer=tokenizer, dtype="uint16", splits=splits, created_at="now")
    write_dataset_json(folder, info)
    return folder


@few
@given(data=st.data())
def test_arrow_shards(prepared: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "set"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder)
    shard = folder / "train" / "shard-00000.arrow"
    whole = shard.read_bytes()
    # Of the size that dataset.json says: another is refused before the file is looked into.
    found = data.draw(damaged(whole))
    shard.write_bytes((found + b"\0" * len(whole))[: len(whole)] if data.draw(st.booleans()) else found)
    read_all(tmp_path, folder)


@few
@given(data=st.data())
def test_dataset_json(prepared: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = (prepared / "dataset.json").read_bytes()
    document = data.draw(changed(json.loads(whole)))
    if isinstance(document, dict):
        document["fingerprint"] = fingerprint(document)
    text = data.draw(st.sampled_from([json.dumps(document).encode(), data.draw(damaged(whole)), b"[" * 5000]))
    try:
        load_dataset_json(text, "dataset.json")
    except UserError:
        return
    folder = tmp_path / "set"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder)
    (folder / "dataset.json").write_bytes(text)
    for split in ("train", "validation"):
        read_all(tmp_path, folder, split)
