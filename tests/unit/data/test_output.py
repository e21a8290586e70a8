"""The output folder of a preparation: recognised after any interruption, and never taken for another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data import output
from trainer.data.output import (
    CLEANED_FILE,
    MARK_FILE,
    Mark,
    check_ours,
    claim,
    claim_cleaned,
    complete_set,
    sole_writer,
    write_mark,
)
from trainer.errors import UserError


def test_a_mark_comes_back(tmp_path: Path, write_set) -> None:
    shards = write_set(tmp_path, train=[100, 20]).splits["train"].shards
    mark = Mark(inputs_sha256="i", tokenizer_fingerprint="t", shards={"train": shards, "validation": ()})
    write_mark(tmp_path, mark)
    assert claim(tmp_path, "i", replace=False) == mark
    assert not (tmp_path / "dataset.json").exists()


def test_only_the_first_whole_shards_are_kept(tmp_path: Path, write_set) -> None:
    shards = write_set(tmp_path, train=[50] * 4).splits["train"].shards
    write_mark(tmp_path, Mark(inputs_sha256="i", shards={"train": shards, "validation": ()}))
    damaged = tmp_path / shards[1].file
    damaged.write_bytes(bytes(damaged.stat().st_size))
    assert claim(tmp_path, "i", replace=False).shards == {"train": shards[:1], "validation": ()}
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["shard-00000.arrow"]


def test_other_inputs_leave_nothing_of_the_old_output(tmp_path: Path, write_set) -> None:
    shards = write_set(tmp_path, train=[50] * 4).splits["train"].shards
    write_mark(tmp_path, Mark(inputs_sha256="i", shards={"train": shards, "validation": ()}))
    with pytest.raises(UserError, match="holds a data set from other inputs"):
        claim(tmp_path, "j", replace=False)
    assert claim(tmp_path, "j", replace=True) == Mark(inputs_sha256="j")
    assert [path.name for path in tmp_path.iterdir()] == [MARK_FILE]


def test_a_folder_whose_first_write_was_cut_off_is_ours(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "out"):
        (tmp_path / "out" / f".{MARK_FILE}.x1y2z3").touch()
    check_ours(tmp_path / "out")
    assert complete_set(tmp_path / "out", "i") is None


def test_a_replacement_of_cleaned_text_that_was_cut_off_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_cleaned(tmp_path, "i", replace=False)
    for name in ("exact", "text"):
        (tmp_path / name).mkdir()
    (tmp_path / "text" / "00000000.json").touch()

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(output.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            claim_cleaned(tmp_path, "j", replace=True)
    # What is left belongs to nobody: neither to the old inputs nor to the new ones.
    for inputs in ("i", "j"):
        with pytest.raises(UserError, match="cleaned text from other inputs"):
            claim_cleaned(tmp_path, inputs, replace=False)
    claim_cleaned(tmp_path, "j", replace=True)
    assert [path.name for path in tmp_path.iterdir()] == [CLEANED_FILE]
    claim_cleaned(tmp_path, "j", replace=False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"servings": 4}'])
def test_a_file_of_the_marks_name_that_means_something_else_is_no_mark(tmp_path: Path, content: str) -> None:
    (tmp_path / MARK_FILE).write_text(content)
    with pytest.raises(UserError, match=r"holds files that preparation did not write: prepare\.json"):
        check_ours(tmp_path)


def test_a_set_whose_description_was_changed_is_not_complete(
    tmp_path: Path, write_set, caplog: pytest.LogCaptureFixture
) -> None:
    write_set(tmp_path, train=[50])
    (tmp_path / "tokenizer.json").touch()
    write_mark(tmp_path, Mark(inputs_sha256="i"))
    assert complete_set(tmp_path, "i") is not None
    assert complete_set(tmp_path, "j") is None
    described = tmp_path / "dataset.json"
    described.write_text(described.read_text().replace("counting", "renamed"))
    assert complete_set(tmp_path, "i") is None
    assert "its content gives" in caplog.text
