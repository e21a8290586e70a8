"""The tracker with the real wandb in offline mode: one id over all attempts, no step twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import wandb as sdk

from tests.integration.wandb_files import messages, offline_files, rows
from trainer.checkpoint.store import Store, open_run
from trainer.metrics.trackers import wandb
from trainer.metrics.trackers.base import Kind, Line
from trainer.metrics.trackers.config import WandbConfig
from trainer.metrics.trackers.wandb import ID_FILE, WandbTracker
from trainer.metrics.trackers.wandb_file import newest_step

SECRET = "not-a-real-key-but-forty-characters-long"  # pragma: allowlist secret


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return open_run(str(tmp_path), "small")


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb's process may begin and write as long as a slow machine lets it."""
    monkeypatch.setattr(wandb, "_INIT_SECONDS", 100.0)
    monkeypatch.setattr(wandb, "_FINISH_SECONDS", 100.0)


def line(step: int, kind: Kind = "training", **values: Any) -> Line:
    return Line(kind, {"step": step, **values})


def attempt(run: Store, lines: Sequence[Line]) -> None:
    tracker = WandbTracker(WandbConfig(mode="offline", tags=("a",)), run, settings={"model": {"layers": 2}})
    tracker.write(lines)
    tracker.close()
    # As the end of an attempt's process does: it waits until wandb's own process has written its file to the end.
    sdk.teardown()


def test_attempts_go_on_under_one_id_and_log_no_step_twice(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    histogram = {"edges": [0.0, 1.0, 2.0], "parameters": {"embed": {"first": 0, "counts": [1, 2]}}, "gradients": {}}
    attempt(run, [line(step, loss=float(step), mfu_ratio=None) for step in range(1, 6)])
    attempt(
        run,
        [
            *(line(step, loss=10.0 + step) for step in range(4, 8)),
            line(7, validation_loss=3.0),
            line(7, "samples", number=1, prompt="a", text=" < b"),
            line(7, "histograms", **histogram),
        ],
    )
    first, second = offline_files(run.local_path("logs"))
    assert {step: row["train/loss"] for step, row in rows(first).items()} == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5}
    found = rows(second)
    assert {step: row["train/loss"] for step, row in found.items()} == {6: 16, 7: 17}
    assert found[7]["validation/loss"] == 3
    assert found[7]["parameters/embed.values"] == [1, 2]
    page = second.parent / "files" / found[7]["samples/1.path"]
    assert "<pre>a &lt; b</pre>" in page.read_text()

    run_id = json.loads(run.read_bytes(ID_FILE))["id"]
    assert run_id.startswith("small-")
    for file in (first, second):
        (begun,) = [message.run for message in messages(file) if message.HasField("run")]
        assert (begun.run_id, begun.project, begun.display_name) == (run_id, "gpt-run", "small")
        assert list(begun.tags) == ["a"]
        assert {item.key: item.value_json for item in begun.config.update}["model"] == '{"layers":2}'
    for file in run.local_path().rglob("*"):
        assert file.is_symlink() or not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_online_needs_the_key_in_the_environment(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(RuntimeError, match="WANDB_API_KEY is not set"):
        WandbTracker(WandbConfig(), run, settings={}).write([line(1, loss=1.0)])


def test_a_file_that_was_cut_off_counts_up_to_its_last_whole_row(run: Store) -> None:
    # More than a block of 32 KiB, so that rows go over its end.
    attempt(run, [line(step, loss=step / 3) for step in range(1, 400)])
    (file,) = offline_files(run.local_path("logs"))
    run_id = json.loads(run.read_bytes(ID_FILE))["id"]
    whole = file.read_bytes()
    assert len(whole) > 2 * 2**15
    assert newest_step(run.local_path("logs"), run_id) == 399
    found = []
    for size in range(0, len(whole), 997):
        file.write_bytes(whole[:size])
        found.append(newest_step(run.local_path("logs"), run_id))
    assert found == sorted(found)
    assert found[0] == -1
    assert len(set(found)) > 50


def test_a_file_in_another_format_is_told_of(run: Store, caplog: pytest.LogCaptureFixture) -> None:
    file = run.local_path("logs/wandb/offline-run-20300101_000000-x/run-x.wandb")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    assert newest_step(run.local_path("logs"), "x") == -1
    assert "cannot be read (begins with b'somethin')" in caplog.text
