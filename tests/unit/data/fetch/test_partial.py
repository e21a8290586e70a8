"""What survives of a file under way: only bytes that a record vouches for, of the same file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.data.fetch.partial import SAVE_SECONDS, Partial
from trainer.data.fetch.remote import Facts

FACTS = Facts(10, '"v1"', 1_600_000_000.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_partial(folder: Path, clock: Clock, url: str = "https://h/a") -> Partial:
    return Partial(folder, "a", url, clock)


def test_a_saved_file_goes_on_where_it_stopped(tmp_path: Path, clock: Clock) -> None:
    first = open_partial(tmp_path, clock)
    first.begin(FACTS)
    first.write(0, b"abc")
    first.write(6, b"gh")
    first.save()
    first.close()
    again = open_partial(tmp_path, clock)
    assert (again.covered, again.num_bytes, again.facts) == (((0, 3), (6, 8)), 5, Facts(10, '"v1"'))
    assert list(again.missing(10, 100)) == [(3, 6), (8, 10)]
    again.write(3, b"def")
    again.write(8, b"ij")
    again.complete(tmp_path / "done", 1_600_000_000.0)
    again.close()
    assert (tmp_path / "done").read_bytes() == b"abcdefghij"
    assert (tmp_path / "done").stat().st_mtime == 1_600_000_000.0
    assert [path.name for path in tmp_path.iterdir()] == ["done"]


def test_the_record_follows_the_bytes_by_the_clock(tmp_path: Path, clock: Clock) -> None:
    partial = open_partial(tmp_path, clock)
    partial.begin(FACTS)
    partial.write(0, b"abcde")
    assert not partial.is_due()
    clock.now = SAVE_SECONDS
    assert [partial.is_due(), partial.is_due()] == [True, False]
    assert list(tmp_path.glob("*.json")) == []
    partial.save()
    (record,) = tmp_path.glob("*.json")
    assert json.loads(record.read_text())["covered"] == [[0, 5]]
    partial.close()


def test_beginning_anew_forgets_the_record_too(tmp_path: Path, clock: Clock) -> None:
    partial = open_partial(tmp_path, clock)
    partial.begin(FACTS)
    partial.write(0, b"abc")
    partial.save()
    partial.restart()
    partial.close()
    assert [(path.suffix, path.stat().st_size) for path in tmp_path.iterdir()] == [(".part", 0)]


def test_without_facts_nothing_is_recorded(tmp_path: Path, clock: Clock) -> None:
    partial = open_partial(tmp_path, clock)
    partial.save()
    partial.close()
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize("damage", ["other url", "short part", "no part", "no record", "torn record", "beyond the end"])
def test_what_does_not_fit_together_is_dropped(damage: str, tmp_path: Path, clock: Clock) -> None:
    partial = open_partial(tmp_path, clock)
    partial.begin(FACTS)
    partial.write(0, b"abcdefgh")
    partial.save()
    partial.close()
    (part,), (record,) = tmp_path.glob("*.part"), tmp_path.glob("*.json")
    if damage == "short part":
        part.write_bytes(b"abc")
    elif damage == "no part":
        part.unlink()
    elif damage == "no record":
        record.unlink()
    elif damage == "torn record":
        record.write_text(record.read_text()[:-3])
    elif damage == "beyond the end":
        record.write_text(record.read_text().replace("[[0, 8]]", "[[0, 11]]"))
        part.write_bytes(b"abcdefghijkl")
    again = open_partial(tmp_path, clock, "https://h/b" if damage == "other url" else "https://h/a")
    assert (again.facts, again.covered, part.stat().st_size) == (None, (), 0)
    again.close()
