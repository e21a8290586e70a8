"""Event files that the tracker keeps in a store, as TensorBoard's own reader sees them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util import tensor_util

from trainer.checkpoint.store import Store, open_run
from trainer.metrics.trackers.base import Kind, Line
from trainer.metrics.trackers.tensorboard import FOLDER, TensorBoardTracker

SETTINGS = {"steps": 8, "model": {"layers": 2, "family": "gpt2"}, "resume": None, "trackers": [{"type": "tensorboard"}]}
HISTOGRAM = {
    "edges": [-2.0, -1.0, 1.0, 2.0],
    "parameters": {"embed": {"first": 1, "counts": [3, 4]}},
    "gradients": {"embed": {"first": 0, "counts": [5]}},
}


def line(step: int, kind: Kind = "training", **values: Any) -> Line:
    return Line(kind, {"time": f"2026-01-01T00:00:{step:02d}.000+00:00", "step": step, **values})


def losses(steps: Sequence[int], offset: float = 0.0) -> list[Line]:
    return [line(step, loss=offset + step) for step in steps]


def tracker(run: Store, attempt: str, first_step: int) -> TensorBoardTracker:
    return TensorBoardTracker(run, attempt, first_step=first_step, settings=SETTINGS)


class Shown:
    """What TensorBoard shows of a folder."""

    def __init__(self, folder: Path) -> None:
        self._read = EventAccumulator(str(folder))
        self._read.Reload()

    def curve(self, tag: str) -> list[tuple[int, float]]:
        return [(event.step, float(tensor_util.make_ndarray(event.tensor_proto))) for event in self._read.Tensors(tag)]

    def tensor(self, tag: str) -> Any:
        (event,) = self._read.Tensors(tag)
        return tensor_util.make_ndarray(event.tensor_proto)

    def hyperparameters(self) -> dict[str, Any]:
        content = self._read.PluginTagToContent("hparams")[hparams_metadata.SESSION_START_INFO_TAG]
        found = hparams_metadata.parse_session_start_info_plugin_data(content)
        return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.hparams.items()}


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return open_run(str(tmp_path), "small")


@pytest.fixture
def bucket() -> Iterator[Store]:
    memory = fsspec.filesystem("memory")
    yield open_run("memory://tensorboard-tracker", "small")
    memory.rm("/tensorboard-tracker", recursive=True)


def test_scalars_samples_histograms_and_hyperparameters(local: Store) -> None:
    text = "def f():\n    return *1*"
    tracker(local, "a0001", 1).write(
        [
            line(1, loss=2.5, lr=0.1, mfu_ratio=None, batch_sha256="ab"),
            line(1, validation_loss=3.0, hellaswag_acc_norm=0.25),
            line(1, "samples", number=1, prompt="def ", text="f():\n    return *1*"),
            line(1, "histograms", **HISTOGRAM),
        ]
    )
    shown = Shown(local.local_path(FOLDER))
    assert shown.curve("train/loss") == [(1, 2.5)]
    assert shown.curve("validation/hellaswag_acc_norm") == [(1, 0.25)]
    assert shown.tensor("samples/1").item().decode() == "    " + text.replace("\n", "\n    ")
    np.testing.assert_array_equal(shown.tensor("parameters/embed"), [[-1, 1, 3], [1, 2, 4]])
    np.testing.assert_array_equal(shown.tensor("gradients/embed"), [[-2, -1, 5]])
    assert shown.hyperparameters() == {
        "steps": 8.0,
        "model.layers": 2.0,
        "model.family": "gpt2",
        "trackers": '[{"type": "tensorboard"}]',
    }


def test_an_attempt_that_goes_on_further_back_makes_no_fork(local: Store) -> None:
    tracker(local, "a0001", 1).write([*losses(range(1, 7)), line(5, "histograms", **HISTOGRAM)])
    second = tracker(local, "a0002", 4)
    second.write(losses([4, 5], 10.0))
    second.write(losses([6, 7], 10.0))
    shown = Shown(local.local_path(FOLDER))
    assert shown.curve("train/loss") == [(1, 1), (2, 2), (3, 3), (4, 14), (5, 15), (6, 16), (7, 17)]
    # What the first attempt alone had of step 5 is gone too.
    assert shown._read.Tensors("parameters/embed") == []


def test_object_stores_get_segments_that_are_written_once(bucket: Store, tmp_path: Path) -> None:
    first = tracker(bucket, "a0001", 1)
    assert first.interval_seconds == 60
    first.write(losses([1, 2]))
    first.write(losses([3]))
    tracker(bucket, "a0002", 3).write(losses([3, 4], 10.0))
    names = [f"events.out.tfevents.{part}" for part in ("a0001-000000", "a0001-000001", "a0002-000000")]
    assert bucket.list_names(FOLDER) == names
    for name in names:
        (tmp_path / name).write_bytes(bucket.read_bytes(f"{FOLDER}/{name}"))
    assert Shown(tmp_path).curve("train/loss") == [(1, 1), (2, 2), (3, 13), (4, 14)]


def test_a_segment_whose_answer_was_lost_is_not_written_twice(bucket: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = tracker(bucket, "a0001", 1)
    write_once = Store.write_once

    def answer_lost(self: Store, path: str, data: bytes) -> None:
        write_once(self, path, data)
        raise TimeoutError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_once", answer_lost)
        with pytest.raises(TimeoutError):
            writing.write(losses([1, 2]))
    writing.write(losses([1, 2]))
    assert bucket.list_names(FOLDER) == ["events.out.tfevents.a0001-000000"]


def test_a_disk_that_was_full_in_the_middle_of_a_write(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = tracker(local, "a0001", 1)
    writing.write(losses([1]))
    (file,) = local.local_path(FOLDER).iterdir()
    whole = file.read_bytes()

    def full(descriptor: int, mode: str) -> Any:
        os.pwrite(descriptor, b"\x01" * 50, len(whole))
        os.close(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with pytest.raises(OSError, match="No space"):
            writing.write(losses([2, 3]))
    assert file.stat().st_size == len(whole) + 50
    writing.write(losses([2]))
    assert Shown(local.local_path(FOLDER)).curve("train/loss") == [(1, 1), (2, 2)]
