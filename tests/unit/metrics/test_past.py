"""Finding the newest account that earlier attempts left."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trainer.checkpoint.attempts import claim_attempt
from trainer.checkpoint.store import Store, open_run
from trainer.metrics.goodput import Bucket, Ledger
from trainer.metrics.past import last_ledger

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> Store:
    store = open_run(str(tmp_path), "small")
    for number in range(3):
        claim_attempt(
            store, world_size=1, config_sha256="", base_checkpoint=None, now=NOON + timedelta(seconds=100 * number)
        )
    return store


def line(seconds: float) -> bytes:
    return json.dumps({"step": 1, **Ledger(NOON, {Bucket.TRAINING: seconds}).to_json()}).encode() + b"\n"


def test_the_newest_attempt_with_a_line_counts(run: Store) -> None:
    run.write_once("logs/a0001/performance-000.jsonl", line(1) + line(2))
    run.write_once("logs/a0002/training-000.jsonl", line(9))  # ended before its first account was written
    run.write_once("logs/a0003/performance-000.jsonl", line(5))
    found = last_ledger(run, 3)
    assert found is not None
    assert found.seconds == {Bucket.TRAINING: 2}


def test_of_several_segments_the_last_line_of_the_last(run: Store) -> None:
    run.write_once("logs/a0002/performance-000.jsonl", line(1))
    run.write_once("logs/a0002/performance-010.jsonl", line(7) + line(8))
    run.write_once("logs/a0002/performance-009.jsonl", line(3))
    found = last_ledger(run, 3)
    assert found is not None
    assert found.seconds == {Bucket.TRAINING: 8}


def test_a_line_cut_off_in_its_middle_is_passed_over(run: Store, caplog: pytest.LogCaptureFixture) -> None:
    run.write_once("logs/a0002/performance-000.jsonl", line(4) + line(5)[:-20])
    found = last_ledger(run, 3)
    assert found is not None
    assert found.seconds == {Bucket.TRAINING: 4}
    assert "damaged" in caplog.text


def test_of_a_long_file_only_the_end_is_read(run: Store) -> None:
    run.write_once("logs/a0002/performance-000.jsonl", line(1) * 2000 + line(6))
    found = last_ledger(run, 3)
    assert found is not None
    assert found.seconds == {Bucket.TRAINING: 6}


def test_without_any_line_time_began_with_the_first_claim(run: Store) -> None:
    assert last_ledger(run, 3) == Ledger(NOON)
    assert last_ledger(run, 1) is None
