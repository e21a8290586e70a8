"""Lines of a run's files: which are sound, and what they are called."""

from __future__ import annotations

import pytest

from trainer.metrics.lines import LogFile, log_file, parse_line, seconds_of


def test_paths_say_attempt_kind_and_segment() -> None:
    found = log_file("logs/a0012/performance-003.jsonl")
    assert found == LogFile(12, 3, "performance", "logs/a0012/performance-003.jsonl")
    for path in ("logs/tensorboard/training-000.jsonl", "logs/a1/training.jsonl", "logs/a1/b/training-0.jsonl"):
        assert log_file(path) is None
    files = [log_file(f"logs/a{attempt}/gpu-{segment}.jsonl") for attempt, segment in ((10, 0), (9, 10), (9, 9))]
    assert [file.path for file in sorted(file for file in files if file)] == [
        "logs/a9/gpu-9.jsonl",
        "logs/a9/gpu-10.jsonl",
        "logs/a10/gpu-0.jsonl",
    ]


@pytest.mark.parametrize("line", [b"", b'{"step": 1', b"[1]", b"\xff", b"3", b"[" * 100_000, b"null"])
def test_damaged_lines(line: bytes) -> None:
    assert parse_line(line, with_step=False) is None


def test_lines_without_a_step() -> None:
    for line in (b"{}", b'{"step": null}', b'{"step": "1"}', b'{"step": true}'):
        assert parse_line(line) is None
        assert parse_line(line, with_step=False) is not None
    assert parse_line(b'{"step": 3}') == {"step": 3}


def test_times() -> None:
    assert seconds_of({"time": "2027-01-15T08:00:00+00:00"}) == 1_800_000_000
    assert seconds_of({"time": "2027-01-15T08:00:00"}) == 1_800_000_000
    assert seconds_of({"time": "2027-01-15T09:00:00+01:00"}) == 1_800_000_000
    for time in (None, 3, "yesterday", [1]):
        assert seconds_of({"time": time}) is None
    assert seconds_of({}) is None
