"""Raw token files: every format is read as it is, and every broken one is refused by name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from trainer.data.cache import ShardCache
from trainer.data.formats import inspect_file, open_raw_shard
from trainer.data.remote import locate
from trainer.errors import UserError

IDS = np.arange(500) % 300


def llmc_bytes(magic: int, version: int, dtype: str, count: int | None = None) -> bytes:
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, version, len(IDS) if count is None else count
    return header.tobytes() + IDS.astype(dtype).tobytes()


def write_npz(path: Path, *, compressed: bool) -> None:
    save = np.savez_compressed if compressed else np.savez
    save(path, a=IDS[:123].astype(np.uint16), b=IDS[123:].astype(np.uint16))


def write_file(path: Path, kind: str) -> None:
    if kind == "nanogpt":
        IDS.astype("<u2").tofile(path)
    elif kind == "llmc-gpt2":
        path.write_bytes(llmc_bytes(20240520, 1, "<u2"))
    elif kind == "llmc-llama":
        path.write_bytes(llmc_bytes(20240801, 7, "<u4"))
    elif kind.startswith("npz"):
        write_npz(path, compressed=kind == "npz-compressed")
    else:
        np.save(path, IDS.astype(kind))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("t.bin", "nanogpt"),
        ("t.bin", "llmc-gpt2"),
        ("t.bin", "llmc-llama"),
        ("t.npy", "uint16"),
        ("t.npy", "uint32"),
        ("t.npy", "int64"),
        ("t.npy", ">u2"),
        ("t.npz", "npz-stored"),
        ("t.npz", "npz-compressed"),
    ],
)
def test_tokens_are_read_as_they_are(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    write_file(path, kind)
    raw = inspect_file(locate(str(path)))
    assert raw.tokens == len(IDS)
    cache = ShardCache(tmp_path / "cache", max_bytes=1 << 20)
    for start, length in ((0, 500), (120, 10), (499, 1)):
        out = np.empty(length, dtype=np.int64)
        open_raw_shard(path, raw, lambda: cache).copy_to(start, out)
        assert np.array_equal(out, IDS[start : start + length])


def test_only_compressed_members_take_space_in_the_cache(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", max_bytes=1 << 20)
    for compressed in (False, True):
        path = tmp_path / f"{compressed}.npz"
        write_npz(path, compressed=compressed)
        open_raw_shard(path, inspect_file(locate(str(path))), lambda: cache)
        unpacked = sorted(entry.name[64:] for entry in cache.folder.iterdir() if entry.is_file())
        assert unpacked == (["-True.npy", "-True.npy"] if compressed else [])


def test_an_archive_may_lose_its_place_in_the_cache_to_its_own_members(tmp_path: Path) -> None:
    write_npz(tmp_path / "t.npz", compressed=True)
    size = (tmp_path / "t.npz").stat().st_size
    # Room for one unpacked member, or for the archive.
    cache = ShardCache(tmp_path / "cache", max_bytes=2000)
    cached = cache.fetch(locate(str(tmp_path / "t.npz")), size=size)
    raw = inspect_file(locate(str(cached)))
    out = np.empty(len(IDS), dtype=np.int64)
    open_raw_shard(cached, raw, lambda: cache).copy_to(0, out)
    assert np.array_equal(out, IDS)
    assert not cached.exists()


def test_a_damaged_compressed_member_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).integers(0, 300, 5000).astype(np.uint16))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    cache = ShardCache(tmp_path / "cache", max_bytes=1 << 20)
    with pytest.raises(UserError, match=r"t\.npz\[a\.npy\] is not a whole archive"):
        open_raw_shard(path, inspect_file(locate(str(path))), lambda: cache)
    assert [entry for entry in cache.folder.iterdir() if entry.is_file()] == []


def test_an_archive_that_changed_is_unpacked_again(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", max_bytes=1 << 20)
    path = tmp_path / "t.npz"
    for ids in (IDS, IDS[::-1]):
        np.savez_compressed(path, a=ids.astype(np.uint16))
        out = np.empty(3, dtype=np.int64)
        open_raw_shard(path, inspect_file(locate(str(path))), lambda: cache).copy_to(0, out)
        assert out.tolist() == ids[:3].tolist()


@pytest.mark.parametrize("suffix", [".bin", ".npy", ".npz"])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.touch()
    with pytest.raises(UserError, match=rf"t\{suffix} is empty"):
        inspect_file(locate(str(path)))


@pytest.mark.parametrize(("name", "kind"), [("t.npy", "uint16"), ("t.npz", "npz-stored"), ("t.bin", "llmc-gpt2")])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    write_file(path, kind)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=rf"{name} (has \d+ bytes|is not a whole archive)"):
        inspect_file(locate(str(path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (llmc_bytes(20240520, 1, "<u2", count=600), "expected: 2224 bytes: its header says 600 uint16 tokens"),
        (llmc_bytes(20240520, 3, "<u2"), "magic 20240520 version 3"),
        (llmc_bytes(20240522, 1, "<u2"), "magic 20240522 version 1"),
        (b"\x01\x00\x02", "has 3 bytes, an odd number"),
    ],
)
def test_a_bin_file_with_another_header_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.bin"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        inspect_file(locate(str(path)))
    assert message in str(caught.value)


def test_megatron_files_are_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "t.bin", "nanogpt")
    (tmp_path / "t.idx").touch()
    with pytest.raises(UserError, match="as Megatron writes them"):
        inspect_file(locate(str(tmp_path / "t.bin")))


@pytest.mark.parametrize("array", [np.zeros(9, np.float32), np.zeros((3, 3), np.uint16), np.array([{}], dtype=object)])
def test_an_array_of_another_type_or_shape_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "t.npy", array)
    np.savez(tmp_path / "t.npz", first=array)
    for name, where in (("t.npy", r"t\.npy"), ("t.npz", r"t\.npz\[first\.npy\]")):
        with pytest.raises(UserError, match=rf"{where} is an array of {array.dtype}, shape"):
            inspect_file(locate(str(tmp_path / name)))


def test_text_with_an_array_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.npy").write_bytes(b"not an array")
    with pytest.raises(UserError, match="has no NumPy header"):
        inspect_file(locate(str(tmp_path / "t.npy")))
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("a.txt", "not an array")
    with pytest.raises(UserError, match=r"t\.npz has no NumPy header"):
        inspect_file(locate(str(tmp_path / "t.npz")))
