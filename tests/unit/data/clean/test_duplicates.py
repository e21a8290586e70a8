"""Exact and near duplicates of real text: which documents go, and that workers and parts change nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.clean.exact import DigestWriter, digests, exact_duplicates
from trainer.data.clean.near import BandWriter, NearDuplicates, band_keys, near_duplicates, signatures
from trainer.data.clean.shingles import shingles
from trainer.data.corpus import library_files

SETTINGS = NearDuplicates()


def passages(number: int) -> list[str]:
    """Different real texts of about 300 words, without licence headers and the like at their beginnings."""
    texts = (path.read_text(encoding="utf-8", errors="replace").split() for _, path in library_files())
    return [" ".join(words[300:600]) for words in texts if len(words) > 600][:number]


def edited(text: str, share: float, seed: int) -> str:
    """The text with a share of its words replaced, at random."""
    generator = random.Random(seed)
    words = text.split()
    for place in generator.sample(range(len(words)), round(share * len(words))):
        words[place] = f"word{generator.randrange(10**9)}"
    return " ".join(words)


def similarities(texts: Sequence[str]) -> list[list[float]]:
    """The Jaccard index of each pair, by exact sets of shingles."""
    sets = [set(shingles([text], SETTINGS.ngram_words)[0].tolist()) for text in texts]
    return [[len(a & b) / len(a | b) for b in sets] for a in sets]


def near(
    folder: Path, texts: Sequence[str], *, parts: int = 1, batch: int = 64, memory_bytes: int = 1 << 26
) -> list[int]:
    for part in range(parts):
        numbers = range(part, len(texts), parts)
        with BandWriter(folder, part) as writer:
            for start in range(0, len(numbers), batch):
                chosen = numbers[start : start + batch]
                keys = band_keys(signatures([texts[i] for i in chosen], SETTINGS), SETTINGS)
                writer.add(keys, chosen)
    return near_duplicates(folder, memory_bytes=memory_bytes).tolist()


@pytest.fixture(scope="module")
def planted() -> list[str]:
    """Passages, then copies of them with 0, 2 and 30 of 100 words replaced, in random order."""
    originals = passages(60)
    texts = [*originals]
    for number, text in enumerate(originals):
        texts += [text, edited(text, 0.02, number), edited(text, 0.3, number)]
    random.Random(1).shuffle(texts)
    return texts


def test_near_copies_go_and_the_first_stays(planted: list[str], tmp_path: Path) -> None:
    dropped = set(near(tmp_path, planted))
    for number, row in enumerate(similarities(planted)):
        if max(row[:number], default=0) > 0.9:
            assert number in dropped
        if max(row[:number] + row[number + 1 :]) < 0.3:
            assert number not in dropped


def test_parts_batches_and_memory_change_nothing(planted: list[str], tmp_path: Path) -> None:
    expected = near(tmp_path / "one", planted)
    assert expected
    assert near(tmp_path / "many", planted, parts=7, batch=5, memory_bytes=4000) == expected


def test_a_pool_gives_what_one_process_gives(planted: list[str], tmp_path: Path) -> None:
    expected = near(tmp_path / "one", planted)
    near(tmp_path / "pool", planted, parts=3)
    (tmp_path / "pool" / "duplicates.npy").unlink()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = near_duplicates(tmp_path / "pool", memory_bytes=40_000, run=pool.map)
    assert found.tolist() == expected


def test_document_numbers_are_the_callers(tmp_path: Path) -> None:
    text = passages(1)[0]
    for part in (1, 0):
        with BandWriter(tmp_path, part) as writer:
            writer.add(band_keys(signatures([text], SETTINGS), SETTINGS), [part << 40 | 7])
    assert near_duplicates(tmp_path).tolist() == [1 << 40 | 7]


def test_documents_without_words_are_like_no_other(tmp_path: Path) -> None:
    assert near(tmp_path, ["", " ... ", "\n", "", "a", "A!", "a b", "b a"]) == [5]


def test_nothing_gives_nothing(tmp_path: Path) -> None:
    assert near(tmp_path / "empty", []) == []
    assert near_duplicates(tmp_path / "no parts").tolist() == []
    assert exact_duplicates(tmp_path / "none").tolist() == []


@pytest.mark.parametrize("similarity", [0.6, 0.75, 0.9])
def test_pairs_are_found_as_often_as_the_formula_says(similarity: float) -> None:
    """Over many seeds, which are independent samples of the hashes."""
    words = [f"w{number}" for number in range(1000)]
    apart = round(1000 * (1 - similarity) / 2)
    pair = [" ".join(words[: 1000 - apart]), " ".join(words[apart:])]
    one_word = SETTINGS.model_copy(update={"ngram_words": 1})
    exact = (1000 - 2 * apart) / 1000
    found = 0
    for seed in range(300):
        seeded = one_word.model_copy(update={"seed": seed})
        keys = band_keys(signatures(pair, seeded), seeded)
        found += bool((keys[0] == keys[1]).any())
    expected = one_word.probability(exact)
    assert abs(found / 300 - expected) <= 4 * np.sqrt(expected * (1 - expected) / 300) + 0.01


def test_signatures_estimate_similarity() -> None:
    long = NearDuplicates(bands=64, rows_per_band=8)
    text = passages(1)[0]
    for share in (0.0, 0.02, 0.1):
        other = edited(text, share, 1)
        rows = signatures([text, other], long)
        assert rows.shape == (2, 512)
        exact = similarities([text, other])[0][1]
        assert abs(float((rows[0] == rows[1]).mean()) - exact) <= 4 * np.sqrt(exact * (1 - exact) / 512)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["a", "b", "a ", "", "\ud800", "é", "e\u0301"]), max_size=20), st.integers(1, 3))
def test_exact_duplicates_are_all_but_the_first(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], parts: int
) -> None:
    folder = tmp_path_factory.mktemp("exact")
    for part in range(parts):
        with DigestWriter(folder, part) as writer:
            writer.add(digests(texts[part::parts]), range(part, len(texts), parts))
    seen: dict[str, int] = {}
    expected = [number for number, text in enumerate(texts) if seen.setdefault(text, number) != number]
    assert exact_duplicates(folder).tolist() == expected


def test_the_method_names_the_version_of_the_hashes() -> None:
    assert SETTINGS.method().startswith("rensa R-MinHash ")
