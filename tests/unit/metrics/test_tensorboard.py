"""Curves of a run, as TensorBoard's own reader sees them: attempts joined, late and damaged lines left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.checkpoint.attempts import claim_attempt
from trainer.checkpoint.store import open_store
from trainer.metrics.tensorboard import EventFiles

START_SECONDS = 1_800_000_000


def line(step: int, **values: Any) -> str:
    time = datetime.fromtimestamp(START_SECONDS + step, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "step": step, **values}) + "\n"


class Run:
    """A run's folder, and the event files made of it."""

    def __init__(self, folder: Path) -> None:
        self.logs, self.events = folder / "run" / "logs", folder / "events"
        self.logs.mkdir(parents=True)
        self.files = EventFiles(open_store(str(folder / "run")), self.events)

    def write(self, attempt: str, text: str, segment: int = 0) -> None:
        path = self.logs / attempt / f"training-{segment:03d}.jsonl"
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def curve(self, name: str) -> dict[int, float]:
        read = EventAccumulator(str(self.events))
        read.Reload()
        return {event.step: event.value for event in read.Scalars(name)} if name in read.Tags()["scalars"] else {}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_an_attempt_that_goes_on_makes_no_fork(run: Run) -> None:
    run.write("a0001", "".join(line(step, loss=10 - step, world_size=2) for step in range(1, 7)))
    assert run.files.update() == 6
    run.write("a0002", line(5, loss=50.0) + line(6, loss=60.0))
    run.write("a0003", line(6, loss=600.0))
    run.write("a0003", line(7, loss=700.0), segment=1)
    assert run.files.update() == 4
    assert run.curve("train/loss") == {1: 9, 2: 8, 3: 7, 4: 6, 5: 50, 6: 600, 7: 700}
    assert run.curve("speed/world_size") == {1: 2, 2: 2, 3: 2, 4: 2}


def test_lines_come_as_they_are_written(run: Run) -> None:
    whole = line(1, loss=1.0)
    run.write("a0001", whole + line(2, loss=2.0)[:20])
    assert run.files.update() == 1
    assert run.files.update() == 0
    run.write("a0001", line(2, loss=2.0)[20:] + line(2, validation_loss=3.0, perplexity=20.0))
    assert run.files.update() == 2
    assert run.curve("train/loss") == {1: 1.0, 2: 2.0}
    assert run.curve("validation/loss") == {2: 3.0}


def test_lines_of_an_earlier_attempt_that_were_uploaded_late_count_up_to_the_next(run: Run) -> None:
    run.write("a0001", line(1, loss=1.0))
    run.write("a0002", line(3, loss=30.0))
    run.files.update()
    run.write("a0001", line(2, loss=2.0) + line(3, loss=3.0), segment=1)
    run.files.update()
    assert run.curve("train/loss") == {1: 1.0, 2: 2.0, 3: 30.0}


def test_damaged_lines_are_left_out_with_a_warning(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.write("a0001", line(1, loss=1.0) + '{"step": 2, "lo\n[3]\n{"loss": 4}\n' + line(5, loss="nan", lr=0.1))
    run.write("a0001", line(6, loss=float("nan")))
    assert run.files.update() == 3
    assert caplog.text.count("is damaged") == 3
    assert set(run.curve("train/loss")) == {1, 6}
    assert run.curve("train/lr") == {5: pytest.approx(0.1)}


def test_an_attempt_begins_where_its_claim_says(run: Run) -> None:
    # With a line every four steps, the first line of an attempt is not of its first step.
    run.write("a0001", line(4, loss=4.0) + line(7, validation_loss=7.0) + line(8, loss=8.0))
    store = open_store(str(run.logs.parent))
    for base in (None, "step-00000005-a0001"):
        claim_attempt(store, world_size=1, config_sha256="", base_checkpoint=base)
    run.write("a0002", line(8, loss=80.0))
    run.files.update()
    assert run.curve("train/loss") == {4: 4.0, 8: 80.0}
    assert run.curve("validation/loss") == {}


def test_samples_histograms_and_settings_are_shown_too(run: Run) -> None:
    (run.logs.parent / "run.yaml").write_text("steps: 8\nmodel: {layers: 2}\n")
    for kind, values in {
        "samples": {"number": 1, "prompt": "a", "text": "b"},
        "histograms": {
            "edges": [0.0, 1.0, 2.0],
            "parameters": {"embed": {"first": 1, "counts": [3]}},
            "gradients": {"embed": {"first": 0, "counts": [1, 2]}},
        },
    }.items():
        path = run.logs / "a0001" / f"{kind}-000.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(line(3, **values) + line(4))
    assert run.files.update() == 2
    read = EventAccumulator(str(run.events))
    read.Reload()
    assert set(read.Tags()["tensors"]) == {
        "_hparams_/session_start_info",
        "samples/1",
    }
    assert set(read.Tags()["histograms"]) == {"parameters/embed", "gradients/embed"}


def test_the_thousandth_segment_comes_after_the_second(run: Run) -> None:
    for segment in (2, 999, 1000):
        run.write("a0001", line(segment, loss=1.0), segment=segment)
    run.files.update()
    assert list(run.curve("train/loss")) == [2, 999, 1000]


def test_a_run_without_lines_has_no_curves(run: Run) -> None:
    (run.logs / "a0001").mkdir()
    (run.logs / "a0001" / "events-000.jsonl").write_text(line(1, loss=1.0))
    assert run.files.update() == 0
    assert not run.events.exists()
