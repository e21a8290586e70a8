"""Decontamination: documents that share runs of words with evaluation texts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from trainer.data.clean.base import Drop
from trainer.data.clean.decontaminate import Decontaminate
from trainer.data.clean.shingles import MAX_CHARACTERS
from trainer.errors import UserError

QUESTION = "A man is sitting on a roof. He starts pulling up roofing on a roof, then he stops and looks around."
DROPPED = Drop("decontaminate.evaluation-text")


def step(path: Path, **settings: Any) -> Decontaminate:
    return Decontaminate(type="decontaminate", evaluations=(str(path),), **settings)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    path = tmp_path / "evaluation.jsonl"
    rows = [{"ctx": QUESTION, "label": 3, "endings": ["He falls from the roof.", "short"]}, {"ctx": "also short"}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def words(count: int, name: str = "other") -> str:
    return " ".join(f"{name}{number}" for number in range(count))


def test_shared_runs_drop_a_document_whatever_case_and_punctuation(evaluation: Path) -> None:
    quoted = "  ".join(QUESTION.upper().replace(".", " -").split()[2:17])
    assert step(evaluation).apply(f"{words(50)} “{quoted}” {words(50)}") == DROPPED
    assert step(evaluation).rules() == (DROPPED.rule,)


def test_long_texts_are_looked_through_to_their_end(evaluation: Path, tmp_path: Path) -> None:
    # Places behind the first piece, and across the border of two.
    for before in (MAX_CHARACTERS, MAX_CHARACTERS - 40):
        long = f"{'filler ' * (before // 7)} {QUESTION}"
        assert step(evaluation).apply(long) == DROPPED
        (tmp_path / f"{before}.txt").write_text(long)
        assert step(tmp_path / f"{before}.txt").apply(QUESTION) == DROPPED


def test_shorter_runs_do_not(evaluation: Path) -> None:
    text = f"{words(50)} {' '.join(QUESTION.split()[:12])} {words(50)}"
    assert step(evaluation).apply(text) == text
    assert step(evaluation, ngram_words=12).apply(text) == DROPPED


def test_short_evaluation_texts_take_no_part(evaluation: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert step(evaluation).apply("He falls from the roof.") == "He falls from the roof."
    assert "3 of 4 texts have fewer than 13 words" in caplog.text


def test_a_share_can_be_allowed(evaluation: Path) -> None:
    # 13 words make one run among 100 + 13 - 12.
    text = f"{words(100)} {' '.join(QUESTION.split()[:13])}"
    assert step(evaluation).apply(text) == DROPPED
    assert step(evaluation, max_share=1 / 101).apply(text) == text
    assert step(evaluation, max_share=0.9 / 101).apply(text) == DROPPED


@pytest.mark.parametrize("text", ["", "...", "one"])
def test_documents_without_runs_stay(text: str, evaluation: Path) -> None:
    assert step(evaluation).apply(text) == text


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.json", "a.json.gz", "a.jsonl.gz"])
def test_files_of_all_kinds_are_read(name: str, tmp_path: Path) -> None:
    content = (json.dumps([{"deep": [QUESTION]}]) if "json" in name else QUESTION).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert step(tmp_path / name).apply(QUESTION) == DROPPED


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "missing.txt"),
        ("a.txt", b"\xff", "a.txt: 'utf-8'"),
        ("a.json", b'{"a":', "a.json"),
        ("a.jsonl", b'{"a": 1}\n{"b', r"a\.jsonl, line 2"),
        ("a.json", b"[" * 100_000, "a.json: maximum recursion depth"),
        ("a.txt.gz", gzip.compress(b"text" * 100, mtime=0)[:20], r"a\.txt\.gz: it cannot be read"),
        ("a.txt.gz", b"text", r"a\.txt\.gz: it cannot be read"),
        ("a.txt", b"too short", "no text of .*a.txt has 13 words"),
    ],
)
def test_bad_files_are_errors(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        step(tmp_path / name).apply("text of a document")


def test_the_method_follows_the_content(evaluation: Path) -> None:
    before = step(evaluation).method()
    evaluation.write_text(json.dumps({"ctx": QUESTION + " More."}))
    assert step(evaluation).method() != before
