"""Lines reach a tracker in order, once, and whatever it does holds up nobody."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from trainer.metrics.trackers.base import Line
from trainer.metrics.trackers.feed import Feed


class Recorder:
    """A tracker that notes what it gets and fails as often as it is told to."""

    name = "recorder"
    interval_seconds = 0.0

    def __init__(self, failures: int = 0, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.refused: list[list[int]] = []
        self.closed = False
        self.let_go = threading.Event()
        self.entered = threading.Event()
        self._failures = failures
        if not held:
            self.let_go.set()

    def write(self, lines: Sequence[Line]) -> None:
        steps = [line.record["step"] for line in lines]
        self.entered.set()
        self.let_go.wait()
        if self._failures:
            self._failures -= 1
            self.refused.append(steps)
            raise ConnectionError("the server is away")
        self.batches.append(steps)

    def close(self) -> None:
        self.closed = True

    @property
    def steps(self) -> list[int]:
        return [step for batch in self.batches for step in batch]


def give(feed: Feed, steps: Sequence[int]) -> None:
    for step in steps:
        feed.put(Line("training", {"step": step}))


def finish(feed: Feed) -> None:
    feed.end()
    feed.wait(60)


def test_lines_arrive_in_order() -> None:
    tracker = Recorder()
    feed = Feed(tracker)
    give(feed, range(1, 200))
    finish(feed)
    assert tracker.steps == list(range(1, 200))
    assert tracker.closed


def test_what_was_refused_comes_again_as_it_was_before_what_follows(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Recorder(failures=3, held=True)
    feed = Feed(tracker, first_pause_seconds=0.0)
    give(feed, [1])
    tracker.entered.wait()
    give(feed, [2, 3])
    tracker.let_go.set()
    while not tracker.batches:
        tracker.entered.clear()
        tracker.entered.wait(0.01)
    finish(feed)
    assert tracker.refused == [[1], [1], [1]]
    assert tracker.batches == [[1], [2, 3]]
    warnings = [record.message for record in caplog.records]
    assert (
        warnings
        == ["tracker recorder: 1 lines not taken, trying again with what follows (ConnectionError: the server is away)"]
        * 3
    )


def test_one_that_keeps_failing_is_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Recorder(failures=1000)
    feed = Feed(tracker, first_pause_seconds=0.0)
    give(feed, [1])
    feed.wait(60)
    give(feed, [2])
    finish(feed)
    assert tracker.refused == [[1]] * 5
    assert tracker.closed
    assert "tracker recorder: failed 5 times in a row, switched off for this attempt" in caplog.text


def test_at_the_end_there_is_one_more_try(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Recorder(failures=1)
    feed = Feed(tracker, first_pause_seconds=3600.0)
    give(feed, [1])
    tracker.entered.wait()
    finish(feed)
    assert tracker.steps == [1]
    tracker = Recorder(failures=1000)
    feed = Feed(tracker, first_pause_seconds=3600.0)
    give(feed, [1])
    finish(feed)
    assert 1 <= len(tracker.refused) <= 2
    assert "switched off" in caplog.text


def test_lines_are_gathered_until_it_is_time_or_somebody_hurries() -> None:
    tracker = Recorder()
    tracker.interval_seconds = 3600.0
    feed = Feed(tracker)
    give(feed, [1])  # the first is handed over at once
    while not tracker.batches:
        tracker.entered.wait(0.01)
    give(feed, [2, 3])
    assert tracker.steps == [1]
    feed.hurry()
    while len(tracker.batches) == 1:
        tracker.entered.wait(0.01)
    feed.hurry()
    give(feed, [4])
    assert tracker.steps == [1, 2, 3]
    finish(feed)
    assert tracker.steps == [1, 2, 3, 4]


def test_one_that_hangs_is_left_behind_and_loses_the_oldest_lines(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Recorder(held=True)
    feed = Feed(tracker, most_lines=3)
    give(feed, [1])
    tracker.entered.wait()
    give(feed, range(2, 10))
    feed.end()
    feed.wait(0.0)
    assert "tracker recorder: still busy at the end, left behind" in caplog.text
    tracker.let_go.set()
    feed.wait(60)
    assert tracker.steps == [1, 7, 8, 9]
    assert "tracker recorder: too slow, 5 lines were left out" in caplog.text
