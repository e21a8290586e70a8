"""What must hold on every kind of store: write-once, commit, fence, listing, resume, corruption, management."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.checkpoint.helpers import claim, flip_bit, load, make_snapshot, make_state, overwrite, same, save
from tests.integration.proxy import Proxy, Trouble
from tests.integration.servers import BUCKET, s3_server
from trainer.checkpoint import manage
from trainer.checkpoint.cleanup import delete_folder
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.layout import read_checkpoints
from trainer.checkpoint.load import find_checkpoint
from trainer.checkpoint.reader import VerifiedFiles
from trainer.checkpoint.references import resolve_url
from trainer.checkpoint.save import Saver
from trainer.checkpoint.store import AlreadyExists, Store, open_run
from trainer.errors import UserError


def test_write_once_accepts_its_own_bytes_and_refuses_others(run: Store) -> None:
    run.write_once("attempts/a0001.json", b"mine")
    run.write_once("attempts/a0001.json", b"mine")
    with pytest.raises(AlreadyExists):
        run.write_once("attempts/a0001.json", b"another's")
    assert run.read_bytes("attempts/a0001.json") == b"mine"


def test_listing_sees_what_another_client_wrote_and_removed(run: Store, store_url: str) -> None:
    other = open_run(store_url, "tiny")
    assert run.list_names("attempts") == []
    assert run.find() == {}
    other.write_once("attempts/a0001.json", b"1")
    assert run.list_names("attempts") == ["a0001.json"]
    other.write_once("attempts/a0002.json", b"22")
    assert run.list_names("attempts") == ["a0001.json", "a0002.json"]
    assert run.find() == {"attempts/a0001.json": 1, "attempts/a0002.json": 2}
    other.remove("attempts/a0001.json")
    assert run.list_names("attempts") == ["a0002.json"]
    assert not run.exists("attempts/a0001.json")
    with pytest.raises(FileNotFoundError):
        run.read_bytes("attempts/a0001.json")


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EPERM])
def test_a_disk_without_hard_links_is_named(disk_run: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def link(_source: Path, _target: Path) -> None:  # stands for SMB and FUSE, which cannot be had here
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(UserError, match=r"(?s)attempts: this file system has no hard links.*another file system"):
        claim(disk_run)
    assert disk_run.find() == {}


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_saved_state_comes_back_bitwise(run: Store, asynchronous: bool) -> None:
    assert find_checkpoint(run) is None
    attempt = claim(run)
    results = save(attempt, make_snapshot(1), make_snapshot(2, validation_loss=3.25), asynchronous=asynchronous)
    assert [result.error for result in results] == [None, None]
    loaded, state = load(run)
    assert same(state, make_state(2))
    assert loaded.progress == {"step": 2, "best_loss": 1.5}
    assert loaded.rank_state == b"rank state of step 2"
    committed = results[1].committed
    assert committed == loaded.committed
    assert committed is not None
    assert committed.validation_loss == 3.25
    sizes = run.child(f"checkpoints/{committed.name}").find()
    assert {name: entry.bytes for name, entry in committed.files.items()} == without(sizes, "COMMITTED.json")
    assert committed.bytes == sum(entry.bytes for entry in committed.files.values())
    document = json.loads(run.read_bytes(f"checkpoints/{committed.name}/COMMITTED.json"))
    assert document["format"] == 1
    assert document["run"] == "tiny"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities per thread")
def test_a_save_in_the_background_gives_way_to_training(s3_run: Store) -> None:
    saver = Saver(claim(s3_run), group=None)
    saver.save(make_snapshot(1))
    (result,) = saver.wait()
    assert result.ok, result.error
    of_saves = [thread for thread in threading.enumerate() if thread.name.startswith(("checkpoint", "fsspecIO"))]
    assert {thread.name for thread in of_saves} == {"checkpoint_0", "fsspecIO"}
    assert {priority(thread) for thread in of_saves} == {19}
    assert priority(threading.main_thread()) < 19


def priority(thread: threading.Thread) -> int:
    assert thread.native_id is not None
    return os.getpriority(os.PRIO_PROCESS, thread.native_id)


def test_a_committed_step_is_not_written_again(run: Store) -> None:
    attempt = claim(run)
    (first,) = save(attempt, make_snapshot(1))
    (second,) = save(attempt, make_snapshot(1))
    assert second.ok
    assert second.committed == first.committed


def test_a_zombie_is_fenced_and_its_late_commit_never_wins(run: Store) -> None:
    zombie = claim(run)
    save(zombie, make_snapshot(1))
    base = find_checkpoint(run)
    assert base is not None
    newer = claim(run, base.checkpoint.base_in(run))
    (late,) = save(zombie, make_snapshot(9))
    assert not late.ok
    assert late.fenced is not None
    assert "a0002" in str(late.fenced)
    assert "host-a" in str(late.fenced)
    assert list(read_checkpoints(run).by_name()) == ["step-00000001-a0001"]
    # Worse: the zombie passed its last check just before the claim and its marker arrives after it.
    source = "checkpoints/step-00000001-a0001"
    for path in run.find(source):
        data = run.read_bytes(path).replace(b'"step": 1,', b'"step": 9,')
        overwrite(run, path.replace("00000001", "00000009"), data)
    assert find_checkpoint(run).checkpoint.step == 1  # type: ignore[union-attr]  # None would fail the test as well
    save(newer, make_snapshot(2))
    loaded, state = load(run)
    assert loaded.checkpoint.name == "step-00000002-a0002"
    assert same(state, make_state(2))


def test_a_marker_that_comes_after_its_files_were_cleaned_up_does_not_stay(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zombie = claim(run)
    save(zombie, make_snapshot(1))
    write_once = Store.write_once

    def held_up(store: Store, path: str, data: bytes) -> None:
        """As by a network that was cut between the last look at the fence and the marker."""
        if path == "COMMITTED.json" and "step-00000009-a0001" in store.url:
            newer = claim(run, "step-00000001-a0001")
            (saved,) = save(newer, make_snapshot(2))
            assert saved.ok, saved.error
            assert store.find() == {}
        write_once(store, path, data)

    monkeypatch.setattr(Store, "write_once", held_up)
    (late,) = save(zombie, make_snapshot(9))
    assert late.fenced is not None
    listing = read_checkpoints(run)
    assert list(listing.by_name()) == ["step-00000001-a0001", "step-00000002-a0002"]
    assert list(listing.torn) == []


def test_a_marker_that_comes_while_its_files_are_cleaned_up_does_not_stay(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zombie = claim(run)
    save(zombie, make_snapshot(1), make_snapshot(2))
    marker = run.read_bytes("checkpoints/step-00000002-a0001/COMMITTED.json")
    run.remove("checkpoints/step-00000002-a0001/COMMITTED.json")
    newer = claim(run, "step-00000001-a0001")
    remove = Store.remove

    def meanwhile(store: Store, path: str) -> None:
        if path == "progress.json" and "step-00000002-a0001" in store.url:
            store.write_once("COMMITTED.json", marker)
        remove(store, path)

    monkeypatch.setattr(Store, "remove", meanwhile)
    save(newer, make_snapshot(2))
    assert list(read_checkpoints(run).by_name()) == ["step-00000001-a0001", "step-00000002-a0002"]
    assert run.find("checkpoints/step-00000002-a0001") == {}


def test_a_commit_stands_though_the_store_goes_away_after_it(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    find = Store.find

    def away(store: Store, path: str = "") -> dict[str, int]:
        found = find(store, path)
        if "COMMITTED.json" in found:
            raise TimeoutError("the store is away")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Store, "find", away)
        (result,) = save(claim(run), make_snapshot(1))
    assert result.ok, result.error
    assert list(read_checkpoints(run).by_name()) == ["step-00000001-a0001"]


def test_a_torn_checkpoint_does_not_exist_and_an_incomplete_one_is_skipped(run: Store) -> None:
    save(claim(run), make_snapshot(1), make_snapshot(2), make_snapshot(3))
    run.remove("checkpoints/step-00000003-a0001/COMMITTED.json")
    run.remove("checkpoints/step-00000002-a0001/__0_0.distcp")
    loaded, state = load(run)
    assert loaded.checkpoint.step == 1
    assert same(state, make_state(1))
    assert loaded.skipped == ("checkpoint step-00000002-a0001: __0_0.distcp is missing",)


@pytest.mark.parametrize("file", [".metadata", "__0_0.distcp", "progress.json", "rank-00000.bin", "COMMITTED.json"])
def test_a_flipped_bit_is_found_and_the_older_checkpoint_taken(run: Store, file: str) -> None:
    save(claim(run), make_snapshot(1), make_snapshot(2))
    flip_bit(run, f"checkpoints/step-00000002-a0001/{file}")
    loaded, state = load(run)
    assert loaded.checkpoint.step == 1
    assert same(state, make_state(1))
    assert len(loaded.skipped) == 1
    assert file in loaded.skipped[0]


@pytest.mark.parametrize("file", [".metadata", "__0_0.distcp", "progress.json", "rank-00000.bin", "COMMITTED.json"])
def test_a_bit_that_flips_on_the_servers_disk_is_found_too(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on handing out the checksum of what it was given, which its client knows how to compare."""
    if shutil.which("go") is None:
        pytest.skip("the S3 server that runs without Go keeps objects in memory")
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        run = open_run(server.url, "tiny")
        save(claim(run), make_snapshot(1), make_snapshot(2))
        flip_bit(open_run(str(tmp_path / BUCKET), "tiny"), f"checkpoints/step-00000002-a0001/{file}")
        loaded, state = load(run)
        assert loaded.checkpoint.step == 1
        assert same(state, make_state(1))
        assert [file in reason for reason in loaded.skipped] == [True]


def test_what_was_damaged_on_its_way_is_fetched_again(s3_run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    save(claim(s3_run), make_snapshot(1), make_snapshot(2))
    download = Store.download
    damaged = []

    def once(store: Store, path: str, target: Path, size_bytes: int) -> str:
        found = download(store, path, target, size_bytes)
        if path in damaged:
            return found
        damaged.append(path)
        return "0" * 64

    monkeypatch.setattr(Store, "download", once)
    loaded, state = load(s3_run)
    assert loaded.checkpoint.step == 2
    assert same(state, make_state(2))
    assert "__0_0.distcp" in damaged


@pytest.mark.parametrize("keep", [KeepConfig(rolling=1), KeepConfig(rolling=1, best=1)], ids=["none", "an-older"])
def test_what_is_deleted_while_it_is_read_gives_way_to_what_took_its_place(
    run: Store, keep: KeepConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = claim(run)
    save(attempt, make_snapshot(1, validation_loss=1.0), make_snapshot(2))
    read = VerifiedFiles.read

    def meanwhile(files: VerifiedFiles, name: str) -> bytes:
        """As by an attempt that has not heard yet that it is to end."""
        if files.checkpoint.step == 2:
            save(attempt, make_snapshot(3), keep=keep)
        return read(files, name)

    monkeypatch.setattr(VerifiedFiles, "read", meanwhile)
    loaded, state = load(run)
    assert loaded.checkpoint.step == 3
    assert same(state, make_state(3))
    assert loaded.skipped == ("checkpoint step-00000002-a0001: .metadata is missing",)


def test_a_file_that_is_deleted_between_its_check_and_torchs_look_at_it(
    disk_run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = claim(disk_run)
    save(attempt, make_snapshot(1), make_snapshot(2))
    verified = VerifiedFiles.file

    @contextlib.contextmanager
    def deleted(files: VerifiedFiles, name: str) -> Iterator[Path]:
        with verified(files, name) as path:
            if files.checkpoint.step == 2 and name.endswith(".distcp"):
                path.unlink()
            yield path

    monkeypatch.setattr(VerifiedFiles, "file", deleted)
    loaded, _ = load(disk_run)
    assert loaded.checkpoint.step == 1
    assert "is missing" in loaded.skipped[0]


def test_a_run_whose_only_checkpoint_is_replaced_during_a_look_does_not_start_over(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = claim(run)
    save(attempt, make_snapshot(1))
    find = Store.find

    def meanwhile(store: Store, path: str = "") -> dict[str, int]:
        found = find(store, path)
        with monkeypatch.context() as patch:
            patch.setattr(Store, "find", find)
            if path == "checkpoints" and not any("step-00000002" in name for name in found):
                save(attempt, make_snapshot(2), keep=KeepConfig(rolling=1))
        return found

    monkeypatch.setattr(Store, "find", meanwhile)
    resolved = find_checkpoint(run)
    assert resolved is not None
    assert [checkpoint.step for checkpoint in resolved.candidates] == [2]


def test_a_listing_that_goes_on_naming_what_is_gone_is_no_fresh_start(
    disk_run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(claim(disk_run), make_snapshot(1))
    listed = disk_run.find("checkpoints")
    delete_folder(disk_run, "step-00000001-a0001", [path.rpartition("/")[2] for path in listed])
    monkeypatch.setattr(Store, "find", lambda *_: listed)  # stands for a store with stale listings
    with pytest.raises(UserError, match="step-00000001-a0001 was deleted while it was read"):
        find_checkpoint(disk_run)


def test_checkpoints_that_are_all_broken_are_an_error_and_no_fresh_start(run: Store) -> None:
    save(claim(run), make_snapshot(1), make_snapshot(2))
    for step in (1, 2):
        flip_bit(run, f"checkpoints/step-0000000{step}-a0001/__0_0.distcp")
    with pytest.raises(UserError, match=r"no usable checkpoint.*step-00000002.*step-00000001"):
        load(run)


@pytest.fixture
def proxy(request: pytest.FixtureRequest, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """One through which clients reach the server of `store_url`."""
    kind = request.node.callspec.params["store_url"]
    if kind == "disk":
        pytest.skip("a disk is not reached over a network")
    server = request.getfixturevalue("start_server")(kind)
    proxy = Proxy(server.port)
    with contextlib.closing(proxy), monkeypatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value.replace(f":{server.port}", f":{proxy.port}"))
        yield proxy


def test_a_store_that_refuses_for_a_moment_is_asked_again(
    proxy: Proxy, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(store_url, "tiny")
    attempt = claim(run)
    proxy.trouble = Trouble.DENIED
    threading.Timer(0.5, setattr, (proxy, "trouble", None)).start()
    (result,) = save(attempt, make_snapshot(1))
    assert proxy.troubled > 0
    assert result.ok, result.error
    monkeypatch.setattr("trainer.storage_errors.REFUSED_SECONDS", 0.0)
    proxy.trouble = Trouble.DENIED
    with pytest.raises(UserError, match="access refused"):
        load(open_run(store_url, "tiny"))


def test_a_lost_answer_to_a_write_is_not_taken_for_anothers(proxy: Proxy, store_url: str) -> None:
    run = open_run(store_url, "tiny")
    attempt = claim(run)
    proxy.lose("COMMITTED.json")
    (result,) = save(attempt, make_snapshot(1))
    assert result.ok, result.error
    assert proxy.lost == 1
    proxy.lose("a0002.json")
    assert claim(run).number == 2
    assert proxy.lost == 2
    assert load(open_run(store_url, "tiny"))[0].checkpoint.name == "step-00000001-a0001"


def test_retention_keeps_what_a_tier_holds(run: Store) -> None:
    keep = KeepConfig(rolling=1, best=1, epochs=True)
    run.write_once("run.yaml", b"checkpoint: {keep: {rolling: 1, best: 1, epochs: true}}")
    attempt = claim(run)
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5}
    snapshots = [make_snapshot(step, validation_loss=loss, epoch=step / 3) for step, loss in losses.items()]
    save(attempt, snapshots[0], keep=keep)
    manage.pin_checkpoint(resolve_url(run.url_of("checkpoints/step-00000001-a0001")))
    results = save(attempt, *snapshots[1:], keep=keep)
    rows = manage.list_checkpoints(run)
    assert [(row.step, row.tiers) for row in rows] == [
        (1, ["pinned"]),
        (2, ["best"]),
        (3, ["epoch"]),
        (4, ["latest", "rolling"]),
    ]
    assert results[-1].deleted == ()
    (last,) = save(attempt, make_snapshot(5, validation_loss=9.0, epoch=5 / 3), keep=keep)
    assert last.deleted == ("step-00000004-a0001",)
    assert not [path for path in run.find() if "step-00000004" in path]


def test_what_a_failed_save_left_goes_with_the_next_commit_and_is_let_be_by_others(run: Store) -> None:
    attempt = claim(run)
    save(attempt, make_snapshot(1))
    overwrite(run, "checkpoints/step-00000002-a0001/__0_0.distcp", b"of a rank whose store was away")
    # It may be in the middle of a save for all that another process knows.
    assert manage.prune(run, KeepConfig(rolling=9)).torn == []
    save(attempt, make_snapshot(3))
    assert list(read_checkpoints(run).torn) == []
    assert list(read_checkpoints(run).by_name()) == ["step-00000001-a0001", "step-00000003-a0001"]


def test_a_file_that_cannot_be_deleted_keeps_no_other(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = claim(run)
    save(attempt, *(make_snapshot(step) for step in (1, 2, 3)))
    remove = Store.remove
    stuck = "checkpoints/step-00000001-a0001/.metadata"  # the first of the first

    def refused(store: Store, path: str) -> None:
        if store.url_of(path) == run.url_of(stuck):
            raise TimeoutError("the store is away")
        remove(store, path)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", refused)
        with pytest.raises(TimeoutError):
            manage.prune(run, KeepConfig(rolling=1))
    assert [path for path in run.find("checkpoints") if "step-00000003" not in path] == [stuck]
    save(attempt, make_snapshot(4))
    assert list(read_checkpoints(run).torn) == []


def test_manage_verify_pull_and_prune(run: Store, tmp_path: Path) -> None:
    save(claim(run), make_snapshot(1), make_snapshot(2), make_snapshot(3))
    checkpoint = resolve_url(f"{run.url}@step:2")
    assert manage.verify_checkpoint(checkpoint).sound
    target = manage.pull_checkpoint(checkpoint, tmp_path / "pulled")
    assert manage.verify_checkpoint(resolve_url(str(target))).sound
    flip_bit(run, "checkpoints/step-00000002-a0001/config.yaml")
    verified = manage.verify_checkpoint(checkpoint)
    assert not verified.sound
    assert verified.problems[0].startswith("config.yaml has sha256")
    with pytest.raises(UserError, match=r"config\.yaml has sha256"):
        manage.pull_checkpoint(checkpoint, tmp_path / "again")
    overwrite(run, "checkpoints/step-00000002-a0001/__0_0.distcp", b"short")
    run.remove("checkpoints/step-00000002-a0001/__0_1.distcp")
    verified = manage.verify_checkpoint(resolve_url(f"{run.url}@step:2"))
    assert [problem.partition(",")[0] for problem in verified.problems[:2]] == [
        "__0_0.distcp has 5 bytes",
        "__0_1.distcp is missing",
    ]
    tried = manage.prune(run, KeepConfig(rolling=1), dry_run=True)
    assert tried.deleted == ["step-00000001-a0001", "step-00000002-a0001"]
    assert len(manage.list_checkpoints(run)) == 3
    assert manage.prune(run, KeepConfig(rolling=1)).deleted == tried.deleted
    assert [row.name for row in manage.list_checkpoints(run)] == ["step-00000003-a0001"]


def without(sizes: dict[str, int], name: str) -> dict[str, int]:
    return {file: size for file, size in sizes.items() if file != name}
