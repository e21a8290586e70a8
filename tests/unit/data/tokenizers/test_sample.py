"""The sample: even, of the size asked for, independent of the order in which documents come."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from trainer.data.tokenizers.sample import Sample

DOCUMENTS = [f"document {number} " + "x" * (number % 90) for number in range(2000)]


def sample_of(documents: list[str], max_bytes: int = 5000, seed: int = 0) -> Sample:
    sample = Sample(max_bytes, seed)
    for document in documents:
        sample.add(document)
    return sample


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=8)), st.integers(1, 60), st.randoms())
def test_the_order_of_documents_and_their_copies_do_not_matter(
    documents: list[str], max_bytes: int, rng: random.Random
) -> None:
    again = [*documents, *documents]
    rng.shuffle(again)
    assert list(sample_of(documents, max_bytes)) == list(sample_of(again, max_bytes))


@given(st.lists(st.text("ab\u00e9", min_size=1, max_size=8), unique=True), st.integers(1, 60))
def test_it_ends_with_the_document_that_reaches_the_size(documents: list[str], max_bytes: int) -> None:
    sample = sample_of(documents, max_bytes)
    sizes = [len(text.encode()) for text in sample]
    assert sample.num_bytes == sum(sizes)
    if sum(len(text.encode()) for text in documents) < max_bytes:
        assert sorted(sample) == sorted(documents)
    else:
        assert sum(sizes[:-1]) < max_bytes <= sum(sizes)


def test_more_text_elsewhere_thins_the_sample_out_evenly() -> None:
    kept = set(sample_of(DOCUMENTS, max_bytes=40_000))
    halves = [sum(document in kept for document in DOCUMENTS[start::2]) for start in (0, 1)]
    assert len(kept) < 1000
    assert min(halves) > 0.4 * sum(halves)


def test_samples_of_parts_make_that_of_the_whole() -> None:
    merged = sample_of(DOCUMENTS[:1200])
    merged.merge(sample_of(DOCUMENTS[900:]))
    assert list(merged) == list(sample_of(DOCUMENTS))


def test_the_seed_picks_another_sample() -> None:
    assert set(sample_of(DOCUMENTS, seed=1)) != set(sample_of(DOCUMENTS, seed=2))


def test_half_a_surrogate_pair_does_no_harm() -> None:
    assert list(sample_of(["a\ud800b"])) == ["a?b"]
