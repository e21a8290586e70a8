"""The shard cache: bounded, checked before use, and whole after any interruption."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from trainer.data.cache import ShardCache, hold
from trainer.data.remote import Location, locate
from trainer.errors import UserError

SIZE = 1000


@pytest.fixture
def remote():
    """Put a file of SIZE bytes into the in-memory store; gives its location and hash."""

    def put(name: str, content: bytes = b"") -> tuple[Location, str]:
        content = content or name.encode().ljust(SIZE)
        MemoryFileSystem().pipe_file(f"/cache-test/{name}", content)
        return locate(f"memory://cache-test/{name}"), hashlib.sha256(content).hexdigest()

    yield put
    MemoryFileSystem().rm("/cache-test", recursive=True)


def names(cache: ShardCache) -> list[str]:
    return sorted(path.name[65:] for path in cache.folder.iterdir() if path.is_file())


def test_the_least_recently_used_files_make_room(tmp_path: Path, remote) -> None:
    cache = ShardCache(tmp_path, max_bytes=3 * SIZE)
    paths = {}
    for age, name in enumerate(("a", "b", "c")):
        location, digest = remote(name)
        paths[name] = cache.fetch(location, size=SIZE, sha256=digest)
        os.utime(paths[name], (age, age))
    location, digest = remote("a")
    assert cache.fetch(location, size=SIZE, sha256=digest) == paths["a"]
    cache.fetch(remote("d")[0], size=SIZE)
    assert names(cache) == ["a", "c", "d"]


def test_what_a_reader_holds_goes_last(tmp_path: Path, remote) -> None:
    cache = ShardCache(tmp_path, max_bytes=3 * SIZE)
    paths = {}
    for age, name in enumerate(("a", "b", "c")):
        paths[name] = cache.fetch(remote(name)[0], size=SIZE)
        os.utime(paths[name], (age, age))
    let_go = [hold(paths["a"]), hold(paths["b"])]
    cache.fetch(remote("d")[0], size=SIZE)
    assert names(cache) == ["a", "b", "d"]
    # Another reader of another process would be no different: the lock is the kernel's.
    let_go.append(hold(next(tmp_path.glob("*-d"))))
    cache.fetch(remote("e")[0], size=SIZE)
    assert names(cache) == ["b", "d", "e"]
    for each in let_go:
        each()
    cache.fetch(remote("f")[0], size=SIZE)
    assert names(cache) == ["d", "e", "f"]


def test_files_left_by_killed_downloads_make_room_too(tmp_path: Path, remote) -> None:
    cache = ShardCache(tmp_path, max_bytes=2 * SIZE)
    (tmp_path / f"{'0' * 64}-dead.{2 * SIZE}.part").write_bytes(b"x" * 2 * SIZE)
    cache.fetch(remote("a")[0], size=SIZE)
    assert names(cache) == ["a"]


def test_a_damaged_copy_is_fetched_again(tmp_path: Path, remote, caplog: pytest.LogCaptureFixture) -> None:
    location, digest = remote("a")
    path = ShardCache(tmp_path, max_bytes=10 * SIZE).fetch(location, size=SIZE, sha256=digest)
    path.write_bytes(b"y" * SIZE)
    with caplog.at_level(logging.WARNING):
        again = ShardCache(tmp_path, max_bytes=10 * SIZE).fetch(location, size=SIZE, sha256=digest)
    assert again.read_bytes() == b"a".ljust(SIZE)
    assert "is damaged" in caplog.text


def test_a_shard_that_is_wrong_in_the_store_is_refused(tmp_path: Path, remote) -> None:
    location, found = remote("a")
    expected = "0" * 64
    with pytest.raises(UserError) as caught:
        ShardCache(tmp_path, max_bytes=10 * SIZE).fetch(location, size=SIZE, sha256=expected)
    assert all(part in str(caught.value) for part in (location.url, found, expected))
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_every_download_is_checked_also_that_of_a_file_known_from_before(tmp_path: Path, remote) -> None:
    cache = ShardCache(tmp_path, max_bytes=SIZE)
    location, digest = remote("a")
    cache.fetch(location, size=SIZE, sha256=digest)
    cache.fetch(remote("b")[0], size=SIZE)
    remote("a", b"z" * SIZE)
    with pytest.raises(UserError, match="is damaged, twice"):
        cache.fetch(location, size=SIZE, sha256=digest)


def test_a_file_that_vanished_from_the_store_is_named(tmp_path: Path, remote) -> None:
    location, digest = remote("a")
    MemoryFileSystem().rm("/cache-test/a")
    remote("b")
    with pytest.raises(UserError, match="cache-test/a is gone"):
        ShardCache(tmp_path, max_bytes=SIZE).fetch(location, size=SIZE, sha256=digest)


def test_a_file_without_hash_that_vanished_is_named_too(tmp_path: Path, remote) -> None:
    location, _ = remote("a")
    MemoryFileSystem().rm("/cache-test/a")
    remote("b")
    with pytest.raises(UserError, match="cache-test/a is gone"):
        ShardCache(tmp_path, max_bytes=SIZE).fetch(location, size=SIZE)


def test_files_of_others_in_the_folder_are_left_alone(tmp_path: Path, remote) -> None:
    for name in ("thesis.tex", "film.mp4.part"):
        (tmp_path / name).write_bytes(b"x" * SIZE)
    cache = ShardCache(tmp_path, max_bytes=SIZE)
    for name in ("a", "b"):
        cache.fetch(remote(name)[0], size=SIZE)
    assert sorted(path.name[-13:] for path in tmp_path.iterdir() if path.is_file() and path.stat().st_size == SIZE) == [
        next(path.name for path in tmp_path.glob("*-b"))[-13:],
        "film.mp4.part",
        "thesis.tex",
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("derived", [False, True])
def test_a_full_disk_is_named_and_no_piece_left(tmp_path: Path, remote, derived: bool) -> None:
    location, digest = remote("a")
    cache = ShardCache(tmp_path, max_bytes=10 * SIZE)
    part = tmp_path / f"{digest}-a.{SIZE}.part"
    part.symlink_to("/dev/full")

    def unpack(target: Path) -> None:
        target.write_bytes(b"x" * SIZE)

    def use() -> Path:
        if derived:
            return cache.derive(f"{digest}-a", SIZE, unpack)
        return cache.fetch(location, size=SIZE, sha256=digest)

    with pytest.raises(UserError) as caught:
        use()
    assert all(
        part in str(caught.value) for part in (str(tmp_path), "No space left", f"{SIZE} bytes", "data.cache.path")
    )
    assert not part.is_symlink()


def test_a_short_download_of_a_file_without_hash_is_refused(tmp_path: Path, remote) -> None:
    with pytest.raises(UserError, match=f"found {SIZE} bytes, expected {SIZE + 1}"):
        ShardCache(tmp_path, max_bytes=10 * SIZE).fetch(remote("a")[0], size=SIZE + 1)


def test_a_file_that_changed_in_the_store_is_another_entry(tmp_path: Path, remote) -> None:
    cache = ShardCache(tmp_path, max_bytes=10 * SIZE)
    first = cache.fetch(remote("a")[0], size=SIZE)
    second = cache.fetch(remote("a", b"z" * SIZE)[0], size=SIZE)
    assert second.read_bytes() == b"z" * SIZE
    assert first != second


def test_a_shard_larger_than_the_cache_is_refused(tmp_path: Path, remote) -> None:
    with pytest.raises(UserError, match=r"1000 bytes, data\.cache\.max_bytes is 999"):
        ShardCache(tmp_path, max_bytes=SIZE - 1).fetch(remote("a")[0], size=SIZE)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data\.cache\.path .*file"):
        ShardCache(tmp_path / "file", max_bytes=SIZE)


def fetch_all(folder: str, sources: list[tuple[str, str]]) -> None:
    cache = ShardCache(Path(folder), max_bytes=3 * SIZE)
    for _ in range(5):
        for path, digest in sources:
            location = locate(path)
            # On a local file system, as one that is not: the cache does not ask.
            found = cache.fetch(location, size=SIZE, sha256=digest)
            try:
                content = found.read_bytes()
            except FileNotFoundError:
                continue  # Another process made room: the reader would fetch it again.
            assert hashlib.sha256(content).hexdigest() == digest


def test_several_processes_share_a_cache_and_never_see_a_torn_file(tmp_path: Path) -> None:
    sources = []
    for name in "abcdef":
        (tmp_path / name).write_bytes(name.encode() * SIZE)
        sources.append((str(tmp_path / name), hashlib.sha256(name.encode() * SIZE).hexdigest()))
    context = multiprocessing.get_context("spawn")
    orders = [sources, sources[::-1], sources[3:] + sources[:3]]
    workers = [context.Process(target=fetch_all, args=(str(tmp_path / "cache"), order)) for order in orders]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    kept = [path for path in (tmp_path / "cache").iterdir() if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in kept) <= 3 * SIZE
