"""Stages of preparation: cleaning steps, repetitions, shared text, and output that depends on the inputs alone."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.training import merged
from trainer.data.prepare import Pipeline, prepare
from trainer.data.prepare.encode import EncodeTask
from trainer.data.prepare.engine import AHEAD, Processes
from trainer.errors import UserError

DOCUMENTS = 120
WORDS = [f"word{number}" for number in range(26)]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A pipeline of many parts; every tenth document is nearly the one before it, every eleventh too short."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(DOCUMENTS):
        kind = number - 1 if number % 10 == 9 else number
        body = " ".join(WORDS[(kind * 7 + place * place) % len(WORDS)] + str(kind % 97) for place in range(80))
        text = f"{body} tail{number}" if number % 11 else "short"
        (folder / f"{number:03d}.txt").write_text(text)
    return {
        "name": "stages",
        "output": str(tmp_path / "out"),
        "sources": [{"type": "text", "path": str(folder), "part_bytes": 4000}],
        "clean": [{"type": "normalise"}, {"type": "gopher-quality", "min_words": 10, "min_stop_words": None}],
        "duplicates": {"near": {"ngram_words": 2}},
        "tokenizer": {"type": "bpe", "vocab_size": 300, "sample_bytes": 20_000},
        "validation_fraction": 0.2,
        "shard_tokens": 3000,
    }


def digests(folder: Path) -> dict[str, str]:
    """Hash of every file of a set but those that carry a time or belong to preparation alone."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in names.items() if "json" not in name}


def test_the_number_of_workers_changes_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    pipeline = Pipeline.model_validate(settings)
    one = prepare(pipeline, tmp_path / "one", engine=Processes(1))
    three = prepare(pipeline, tmp_path / "three", engine=Processes(3))
    assert one.info.fingerprint == three.info.fingerprint
    assert digests(tmp_path / "one") == digests(tmp_path / "three")
    assert not [path for path in (tmp_path / "one").iterdir() if path.name in (".prepare.cleaned", ".prepare.tokens")]


def test_every_step_says_what_it_dropped(settings: dict[str, Any], tmp_path: Path) -> None:
    info = prepare(Pipeline.model_validate(settings), tmp_path / "out").info
    dropped = {entry["name"]: entry["dropped"] for entry in info.filters}
    short = len([number for number in range(DOCUMENTS) if number % 11 == 0])
    assert dropped["gopher-quality.min-words"] == short
    near = [n for n in range(DOCUMENTS) if n % 10 == 9 and n % 11 and (n - 1) % 11]
    assert dropped["near-duplicate"] == len(near)
    assert (info.filters[0]["seen"], info.filters[-1]["seen"]) == (
        DOCUMENTS,
        DOCUMENTS - sum(dropped.values()) + len(near),
    )
    assert sum(split.documents for split in info.splits.values()) == DOCUMENTS - short - len(near)


@pytest.mark.slow
def test_two_tokenizers_share_the_cleaned_text(settings: dict[str, Any], tmp_path: Path) -> None:
    shared = {"cleaned": str(tmp_path / "cleaned")}
    first = prepare(Pipeline.model_validate(merged(settings, shared)), tmp_path / "first")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cleaned").rglob("*") if path.is_file()}
    assert len([path for path in before if path.suffix == ".arrow"]) > 3
    other = merged(settings, {**shared, "tokenizer": {"vocab_size": 280}})
    second = prepare(Pipeline.model_validate(other), tmp_path / "second")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert second.info.filters == first.info.filters
    alone = prepare(Pipeline.model_validate(merged(other, {"cleaned": None})), tmp_path / "alone")
    assert alone.info.fingerprint == second.info.fingerprint
    assert (first.info.tokenizer.vocab_size, second.info.tokenizer.vocab_size) == (300, 280)


def test_cleaned_text_of_other_inputs_is_not_taken(settings: dict[str, Any], tmp_path: Path) -> None:
    shared = merged(settings, {"cleaned": str(tmp_path / "cleaned")})
    prepare(Pipeline.model_validate(shared), tmp_path / "first")
    other = Pipeline.model_validate(merged(shared, {"seed": 1}))
    with pytest.raises(UserError, match="holds cleaned text from other inputs"):
        prepare(other, tmp_path / "second")
    assert prepare(other, tmp_path / "second", replace=True).info.splits["train"].documents

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds other files"):
        prepare(Pipeline.model_validate(merged(settings, {"cleaned": str(tmp_path / "mine")})), tmp_path / "third")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_an_empty_result_names_the_step(settings: dict[str, Any], tmp_path: Path) -> None:
    none = merged(settings, {"clean": [{"type": "gopher-quality", "min_words": 10_000}]})
    with pytest.raises(UserError, match=f"leaves no text of {DOCUMENTS} documents: gopher-quality.min-words dropped"):
        prepare(Pipeline.model_validate(none), tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_are_made_as_they_are_handed_out(workers: int) -> None:
    made = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield -number

    engine = Processes(workers)
    try:
        results = engine.map(abs, tasks())
        assert next(results) == 0
        assert len(made) <= AHEAD * workers
        assert list(results) == list(range(1, 100))
    finally:
        engine.close()


def test_what_a_part_needs_is_small_whatever_the_vocabulary(settings: dict[str, Any], tmp_path: Path) -> None:
    class Weighing(Processes):
        def map(self, function: Any, tasks: Iterable[Any]) -> Iterator[Any]:
            tasks = list(tasks)
            heaviest.extend(len(pickle.dumps(task)) for task in tasks if isinstance(task, EncodeTask))
            return super().map(function, tasks)

    heaviest: list[int] = []
    prepare(Pipeline.model_validate(settings), tmp_path / "out", engine=Weighing(1))
    assert heaviest
    # Two bytes for each document, and names: of ten thousand parts all tasks may be waiting in a cluster.
    assert max(heaviest) < 4_000 < (tmp_path / "out" / "tokenizer.json").stat().st_size
