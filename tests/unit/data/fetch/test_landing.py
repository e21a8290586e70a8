"""The target folder: its journal, its SHA256SUMS, and one writer at a time."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from trainer.data.fetch.landing import Stored, open_landing
from trainer.errors import UserError

A = Stored(name="a", url="https://h/a", bytes=1, sha256="1" * 64, version='"v1"')
B = Stored(name="b/c", url="https://h/b", bytes=2, sha256="2" * 64)


def put(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(name)


def test_what_was_stored_is_known_to_the_next_fetch(tmp_path: Path) -> None:
    with open_landing(tmp_path / "new" / "folder") as landing:
        landing.note(A)
        landing.note(B)
        landing.note(A)
    with open_landing(tmp_path / "new" / "folder") as landing:
        assert (landing.stored("a"), landing.stored("b/c"), landing.stored("x")) == (A, B, None)
    journal = tmp_path / "new" / "folder" / ".fetch" / "journal.jsonl"
    assert len(journal.read_text().splitlines()) == 2


def test_a_torn_line_is_passed_over_and_not_written_on(tmp_path: Path) -> None:
    with open_landing(tmp_path) as landing:
        landing.note(A)
    journal = tmp_path / ".fetch" / "journal.jsonl"
    journal.write_text(journal.read_text() + B.model_dump_json()[:-9])
    with open_landing(tmp_path) as landing:
        assert (landing.stored("a"), landing.stored("b/c")) == (A, None)
        landing.note(B)
    with open_landing(tmp_path) as landing:
        assert (landing.stored("a"), landing.stored("b/c")) == (A, B)


def test_sums_list_what_is_here(tmp_path: Path) -> None:
    put(tmp_path, "a")
    with open_landing(tmp_path) as landing:
        landing.note(A)
        landing.note(B)  # its file is gone
        assert landing.finish() == tmp_path / "SHA256SUMS"
    assert (tmp_path / "SHA256SUMS").read_text() == f"{'1' * 64}  a\n"
    assert (tmp_path / ".fetch" / "journal.jsonl").read_text() == A.model_dump_json() + "\n"


def test_a_folder_that_came_without_its_journal_is_known_by_its_sums(tmp_path: Path) -> None:
    put(tmp_path, "a")
    (tmp_path / "SHA256SUMS").write_text(f"{'3' * 64}  a\n{'4' * 32}  md5\n")
    with open_landing(tmp_path) as landing:
        assert landing.stored("a") == Stored(name="a", sha256="3" * 64)
        assert landing.stored("md5") is None


def test_torn_records_are_cleared_away_and_parts_are_kept(tmp_path: Path) -> None:
    with open_landing(tmp_path) as landing:
        parts = landing.parts
    for name in ("k.part", "k.json", ".k.json.x8"):
        (parts / name).touch()
    with open_landing(tmp_path):
        assert sorted(path.name for path in parts.iterdir()) == ["k.json", "k.part"]


def test_a_second_fetch_waits_for_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".fetch").mkdir()
    entered = threading.Event()

    def enter() -> None:
        with open_landing(tmp_path):
            entered.set()

    with (tmp_path / ".fetch" / "lock").open("wb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        second = threading.Thread(target=enter)
        second.start()
        while "waiting" not in caplog.text:
            assert second.is_alive()
        assert not entered.is_set()
    second.join(timeout=20)
    assert entered.is_set()


def test_a_file_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(UserError, match="f is a file"), open_landing(tmp_path / "f"):
        pass
