"""Logits of a teacher beside a data set: whole or not there, written once, read for any samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer.data.order import Int64
from trainer.data.teacher_logits import MARKER, CacheFolder, CacheKey, Entries, LogitsReader, read_entries, write_logits
from trainer.errors import UserError

KEY = CacheKey("a" * 64, "b" * 64, "train", sequence_length=3, top_k=2, within_documents=False)
SAMPLES = 7


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CacheFolder:
    # Two samples in each file.
    monkeypatch.setattr("trainer.data.teacher_logits._FILE_BYTES", 2 * 3 * 2 * 4)
    return CacheFolder(tmp_path / KEY.name, KEY, SAMPLES, vocab_size=100)


def entries(folder: CacheFolder, samples: Int64) -> Entries:
    out = np.zeros((len(samples), 3, 2), folder.dtype)
    out["id"] = samples[:, None, None] * 10 + np.arange(2)
    out["logit"] = -samples[:, None, None] / 4
    return out


def test_every_sample_is_read_as_it_was_written(folder: CacheFolder) -> None:
    assert (folder.files, folder.shape(3)) == (4, (1, 3, 2))
    assert sum(write_logits(folder, {}, lambda samples: entries(folder, samples))) == SAMPLES * 3 * 2 * 4
    order = np.array([6, 0, 3, 3, 5])
    assert np.array_equal(LogitsReader(folder).read(order), entries(folder, order))


def test_writing_goes_on_where_it_was_stopped(folder: CacheFolder) -> None:
    asked: list[list[int]] = []

    def failing(samples: Int64) -> Entries:
        asked.append(samples.tolist())
        if samples[0] == 4:
            raise RuntimeError("power cut")
        return entries(folder, samples)

    with pytest.raises(RuntimeError, match="power cut"):
        list(write_logits(folder, {}, failing))
    with pytest.raises(UserError, match=r"teacher\.json is not there"):
        LogitsReader(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.path.glob("*.logits")}
    asked.clear()

    def noting(samples: Int64) -> Entries:
        asked.append(samples.tolist())
        return entries(folder, samples)

    list(write_logits(folder, {}, noting))
    assert asked == [[4, 5], [6]]
    assert {name: (folder.path / name).stat().st_mtime_ns for name in before} == before
    assert json.loads((folder.path / MARKER).read_text())["samples"] == SAMPLES


def test_a_damaged_file_is_refused(folder: CacheFolder) -> None:
    list(write_logits(folder, {}, lambda samples: entries(folder, samples)))
    folder.file(1).write_bytes(b"\0" * folder.file_bytes(1))
    reader = LogitsReader(folder)
    reader.read(np.array([0, 6]))
    with pytest.raises(UserError, match=r"00001\.logits is missing or damaged"):
        reader.read(np.array([2]))


@pytest.mark.parametrize(
    "change",
    [{"teacher_sha256": "c" * 64}, {"fingerprint": "c" * 64}, {"split": "test"}, {"sequence_length": 4}, {"top_k": 3},
     {"within_documents": True}],
)  # fmt: skip
def test_whatever_changes_the_logits_changes_the_folder(change: dict[str, str | int]) -> None:
    assert replace(KEY, **change).name != KEY.name  # type: ignore[arg-type]  # each value is of its field's type


def test_rows_of_several_sources_come_in_the_order_they_were_asked_for(folder: CacheFolder) -> None:
    list(write_logits(folder, {}, lambda samples: entries(folder, samples)))
    readers = [LogitsReader(folder), LogitsReader(folder)]
    ids = np.array([[1, 6], [0, 2], [1, 0], [0, 5]])
    assert np.array_equal(read_entries(readers, ids), entries(folder, ids[:, 1]))
    assert read_entries(readers, ids[:0]).shape == (0, 3, 2)
