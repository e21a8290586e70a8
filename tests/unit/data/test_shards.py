"""Writing and mapping shards; dataset.json."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.shards import (
    MappedShard,
    ShardInfo,
    ShardWriter,
    file_sha256,
    fingerprint,
    load_dataset_json,
    open_arrow_shard,
    token_dtype,
)
from trainer.errors import UserError


def test_documents_come_back_as_rows_of_shards_that_end_with_a_document(tmp_path: Path) -> None:
    documents = [np.arange(n) for n in (30, 30, 5, 100, 1)]
    with ShardWriter(tmp_path, "train", dtype="uint16", shard_tokens=50, batch_tokens=20) as writer:
        for document in documents:
            writer.add(document, text_bytes=len(document) * 4)
        shards = writer.close()
    assert [(s.documents, s.tokens, s.text_bytes) for s in shards] == [(2, 60, 240), (2, 105, 420), (1, 1, 4)]
    rows = []
    for shard in shards:
        path = tmp_path / shard.file
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard.sha256
        assert path.stat().st_size == shard.bytes
        table = pa.ipc.open_file(str(path)).read_all()
        assert table.schema.field("tokens").type == pa.list_(pa.uint16())
        rows += table.column("tokens").to_pylist()
    assert rows == [document.tolist() for document in documents]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.lists(st.integers(1, 30), max_size=5))
def test_documents_added_together_are_written_as_one_by_one(lengths: list[int], cuts: list[int]) -> None:
    tokens, ends = np.arange(sum(lengths)), np.cumsum([0, *lengths])
    files, infos = [], []
    for together in (False, True):
        with TemporaryDirectory() as name:
            folder, told = Path(name), []
            with ShardWriter(
                folder, "train", dtype="uint16", shard_tokens=50, batch_tokens=20, on_finish=told.append
            ) as writer:
                borders = sorted({0, len(lengths), *(cut for cut in cuts if together and cut < len(lengths))})
                runs = list(pairwise(borders if together else range(len(lengths) + 1)))
                for first, last in runs:
                    writer.extend(tokens[ends[first] : ends[last]], lengths[first:last], [7] * (last - first))
                infos.append(writer.close())
            assert told == [infos[-1][: number + 1] for number in range(len(infos[-1]))]
            files.append([(folder / shard.file).read_bytes() for shard in infos[-1]])
    assert files[0] == files[1]
    assert infos[0] == infos[1]


def test_a_mapped_shard_reads_across_record_batches(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train", dtype="uint32", shard_tokens=10_000, batch_tokens=16) as writer:
        for start in range(0, 200, 10):
            writer.add(np.arange(start, start + 10), text_bytes=1)
        (shard,) = writer.close()
    mapped = open_arrow_shard(tmp_path / shard.file)
    assert mapped.num_tokens == 200
    for start, length in ((0, 200), (19, 2), (20, 1), (33, 101), (199, 1)):
        out = np.empty(length, dtype=np.int64)
        mapped.copy_to(start, out)
        assert out.tolist() == list(range(start, start + length))


def test_the_head_of_a_mapped_shard_is_a_copy_of_its_first_tokens() -> None:
    chunks = [np.arange(start, start + 5, dtype=np.uint16) for start in (0, 5, 10)]
    shard = MappedShard(chunks)
    assert [shard.head(count).tolist() for count in (0, 3, 5, 7, 99)] == [
        list(range(count)) for count in (0, 3, 5, 7, 15)
    ]
    head = shard.head(7)
    chunks[0][:] = 0
    assert (head.dtype, head.tolist()) == (np.dtype(np.uint16), list(range(7)))
    assert MappedShard([]).head(3).tolist() == []


def test_a_failed_writer_leaves_no_unfinished_file(tmp_path: Path) -> None:
    def fail_in_the_middle() -> None:
        with ShardWriter(tmp_path, "train", dtype="uint16", shard_tokens=1000, batch_tokens=10) as writer:
            writer.add(np.arange(20), text_bytes=1)
            assert [path.suffix for path in (tmp_path / "train").iterdir()] == [".part"]
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_in_the_middle()
    assert list((tmp_path / "train").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_writer_on_a_full_disk_says_so_and_leaves_no_unfinished_file(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / ".shard-00000.arrow.part").symlink_to("/dev/full")

    def write() -> None:
        with ShardWriter(tmp_path, "train", dtype="uint16", shard_tokens=10**9, batch_tokens=10) as writer:
            for _ in range(10_000):
                writer.add(np.arange(20), text_bytes=1)

    with pytest.raises(OSError, match="No space left on device"):
        write()
    assert list((tmp_path / "train").iterdir()) == []


def test_a_writer_goes_on_behind_finished_shards(tmp_path: Path) -> None:
    documents = [np.arange(start, start + 30) for start in range(0, 150, 30)]
    with ShardWriter(tmp_path / "whole", "train", dtype="uint16", shard_tokens=50) as writer:
        for document in documents:
            writer.add(document, text_bytes=1)
        expected = writer.close()
    told: list[tuple[ShardInfo, ...]] = []
    with ShardWriter(tmp_path / "parts", "train", dtype="uint16", shard_tokens=50, on_finish=told.append) as writer:
        for document in documents[:3]:
            writer.add(document, text_bytes=1)
    assert told == [expected[:1]]
    with ShardWriter(tmp_path / "parts", "train", dtype="uint16", shard_tokens=50, after=told[-1]) as writer:
        for document in documents[2:]:
            writer.add(document, text_bytes=1)
        assert writer.close() == expected


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2, "uint16"), (65536, "uint16"), (65537, "uint32")])
def test_dtype_holds_every_id(vocab_size: int, dtype: str) -> None:
    assert token_dtype(vocab_size) == dtype
    assert np.iinfo(dtype).max >= vocab_size - 1


def test_description_comes_back_and_its_fingerprint_is_that_of_the_content(tmp_path: Path, write_set) -> None:
    written = write_set(tmp_path, train=[100, 20])
    text = (tmp_path / "dataset.json").read_bytes()
    assert load_dataset_json(text, "d") == written
    raw = json.loads(text)
    assert raw["fingerprint"] == fingerprint({**raw, "created_at": "another day"})
    assert raw["fingerprint"] != fingerprint({**raw, "name": "another"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2"),
        ({"dtype": "int8"}, "dtype: Input should be"),
        ({"name": "other"}, "its content gives"),
        ({"splits": None}, "splits: Input should be"),
    ],
)
def test_a_description_that_was_changed_is_refused(tmp_path: Path, write_set, change, message: str) -> None:
    write_set(tmp_path, train=[100])
    raw = json.loads((tmp_path / "dataset.json").read_bytes())
    with pytest.raises(UserError, match=message):
        load_dataset_json(json.dumps({**raw, **change}).encode(), "d/dataset.json")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_file_that_is_no_description_is_refused(text: bytes) -> None:
    with pytest.raises(UserError, match=r"d/dataset\.json is not a data set's description"):
        load_dataset_json(text, "d/dataset.json")


def write_column(path: Path, name: str, values: pa.Array) -> None:
    batch = pa.record_batch([values], names=[name])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("text", pa.array([[1]], pa.list_(pa.uint16())), "cannot be read as a shard"),
        ("tokens", pa.array([1], pa.uint16()), "cannot be read as a shard"),
        ("tokens", pa.array([[1]], pa.list_(pa.int64())), "tokens of type int64"),
        ("tokens", pa.array([[1], None], pa.list_(pa.uint16())), "has nulls"),
        ("tokens", pa.array([[1, None]], pa.list_(pa.uint16())), "has nulls"),
    ],
)
def test_a_foreign_arrow_file_is_refused(tmp_path: Path, name: str, values: pa.Array, message: str) -> None:
    path = tmp_path / "foreign.arrow"
    write_column(path, name, values)
    with pytest.raises(UserError, match=message):
        open_arrow_shard(path)


@pytest.mark.parametrize("keep", [0, 5, 200])
def test_a_truncated_arrow_file_is_refused(tmp_path: Path, write_set, keep: int) -> None:
    write_set(tmp_path, train=[100])
    path = tmp_path / "train" / "shard-00000.arrow"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="cannot be read as a shard"):
        open_arrow_shard(path)


@pytest.mark.parametrize("last", [60, -5])
def test_a_shard_whose_offsets_leave_the_file_is_refused(tmp_path: Path, write_set, last: int) -> None:
    write_set(tmp_path, train=[10] * 5, batch_tokens=1000)
    path = tmp_path / "train" / "shard-00000.arrow"
    offsets = np.arange(0, 60, 10, dtype="<i4")
    damaged = np.append(offsets[:-1], np.int32(last)).astype("<i4")
    content = path.read_bytes()
    assert content.count(offsets.tobytes()) == 1
    path.write_bytes(content.replace(offsets.tobytes(), damaged.tobytes()))
    with pytest.raises(UserError, match="cannot be read as a shard"):
        open_arrow_shard(path)


def test_a_shard_with_a_damaged_footer_is_refused(tmp_path: Path, write_set) -> None:
    write_set(tmp_path, train=[100])
    path = tmp_path / "train" / "shard-00000.arrow"
    content = bytearray(path.read_bytes())
    for place in range(len(content) - 60, len(content) - 10):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a shard"):
        open_arrow_shard(path)


def test_a_shard_that_is_gone_is_no_damaged_one(tmp_path: Path) -> None:
    """The cache's reader asks again for a copy whose name was taken away."""
    with pytest.raises(FileNotFoundError):
        open_arrow_shard(tmp_path / "shard-00000.arrow")


def test_reading_a_shard_imports_no_pandas(tmp_path: Path) -> None:
    """Arrow's own conversions do where it is installed (ray brings it), and each new worker would wait a second."""
    assert importlib.util.find_spec("pandas") is not None, "the test proves nothing without it"
    write_column(tmp_path / "shard.arrow", "tokens", pa.array([[1, 2], [3]], pa.list_(pa.uint16())))
    read = (
        "import sys, pathlib, numpy\n"
        "from trainer.data.shards import open_arrow_shard\n"
        "out = numpy.empty(3, dtype=numpy.uint16)\n"
        "open_arrow_shard(pathlib.Path('shard.arrow')).copy_to(0, out)\n"
        "assert out.tolist() == [1, 2, 3]\n"
        "assert 'pandas' not in sys.modules and 'pyarrow.compute' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", read], cwd=tmp_path, env=environment, check=True, timeout=60)


def test_file_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", "../../shard.arrow"),
        ("file", "/etc/shard.arrow"),
        ("sha256", "../../../../home/user/x"),
        ("sha256", "A" * 64),
        ("sha256", ""),
    ],
)
def test_a_description_cannot_name_files_elsewhere(tmp_path: Path, write_set, key: str, value: str) -> None:
    """A copy in the cache is named after the shard's hash: written there before it is compared."""
    write_set(tmp_path, train=[60])
    raw = json.loads((tmp_path / "dataset.json").read_text())
    raw["splits"]["train"]["shards"][0][key] = value
    raw["fingerprint"] = fingerprint(raw)
    with pytest.raises(UserError, match=key):
        load_dataset_json(json.dumps(raw).encode(), "dataset.json")
