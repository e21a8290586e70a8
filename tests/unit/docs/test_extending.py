"""The code of docs/extending.md does what the page says of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trainer.checkpoint.store import open_store
from trainer.metrics.trackers.base import Line, Tracker
from trainer.settings import what_counts

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's code defines."""
    module = ModuleType("extending")
    # Pydantic looks there for what annotations name.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in re.findall(r"(?s)```python\n(.*?)```", PAGE.read_text(encoding="utf-8")):
        exec(block, vars(module))
    return vars(module)


def test_the_tracker_appends_and_begins_anew_with_each_attempt(names: dict[str, Any], tmp_path: Path) -> None:
    for attempt in ("a0001", "a0002"):
        tracker: Tracker = names["CsvTracker"](open_store(str(tmp_path)), attempt)
        tracker.write([Line("training", {"step": 1, "loss": 2.5}), Line("samples", {"step": 1})])
        tracker.write([Line("training", {"step": 2, "loss": 2.0})])
        tracker.close()
    text = (tmp_path / "logs" / "csv" / "a0002.csv").read_text()
    assert text.split() == ["1,train/loss,2.5", "2,train/loss,2.0"]


def test_what_a_failed_write_left_is_written_over(names: dict[str, Any], tmp_path: Path) -> None:
    tracker: Tracker = names["CsvTracker"](open_store(str(tmp_path)), "a0001")
    lines = [Line("training", {"step": 1, "loss": 2.5}), Line("training", {"loss": 2.0})]
    with pytest.raises(KeyError):
        tracker.write(lines)
    tracker.write(lines[:1])
    tracker.close()
    assert (tmp_path / "logs" / "csv" / "a0001.csv").read_text().split() == ["1,train/loss,2.5"]


def test_the_key_counts_where_it_changes_something(names: dict[str, Any]) -> None:
    settings = names["CheckpointConfig"]
    assert what_counts(settings()) == {}
    assert what_counts(settings(warm_up_seconds=1)) == {"warm_up_seconds": 1.0}


def test_the_source_gives_the_text_and_counts_what_is_none(names: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(
        "1\n00:00:01,000 --> 00:00:02,000\nHello.\n\n2\n00:00:03,000 --> 00:00:04,000\nBye.\n"
    )
    (tmp_path / "b.srt").write_bytes(b"1\n00:00:01,000 --> 00:00:02,000\n\xff\n")
    first, second = names["Subtitles"](type="subtitles", path=str(tmp_path)).documents()
    assert first.text == "Hello.\n\nBye.\n"
    assert (second.text, second.problem) == (None, "utf-8")
