"""Gopher's rules: each by name at its border, and against datatrove's filters on real text with the same words."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainer.data.clean.base import Drop
from trainer.data.clean.gopher import GopherQuality, GopherRepetition
from trainer.data.corpus import help_topics, library_files

PROSE = "The people of this place have to be with friends and that is good . "
# datatrove's name of each rule.
THEIR_NAMES = {
    "gopher_short_doc": "min-words",
    "gopher_long_doc": "max-words",
    "gopher_below_avg_threshold": "min-mean-word-length",
    "gopher_above_avg_threshold": "max-mean-word-length",
    "gopher_too_many_hashes": "max-hash-ratio",
    "gopher_too_many_ellipsis": "max-ellipsis-ratio",
    "gopher_too_many_bullets": "max-bullet-line-share",
    "gopher_too_many_end_ellipsis": "max-ellipsis-line-share",
    "gopher_below_alpha_threshold": "min-alphabetic-word-share",
    "gopher_enough_stop_words": "min-stop-words",
    "dup_para_frac": "max-paragraph-share",
    "dup_para_char_frac": "max-paragraph-character-share",
    "dup_line_frac": "max-line-share",
    "dup_line_char_frac": "max-line-character-share",
    **{f"top_{n}_gram": f"max-top-{n}-gram-share" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"max-repeated-{n}-gram-share" for n in range(5, 11)},
}


def quality(text: str, **settings: Any) -> str:
    """The rule that drops a text, without the step's name; "" where it stays."""
    return rule(GopherQuality(type="gopher-quality", **settings).apply(text), text)


def repetition(text: str, **settings: Any) -> str:
    return rule(GopherRepetition(type="gopher-repetition", **settings).apply(text), text)


def rule(verdict: str | Drop, text: str) -> str:
    if isinstance(verdict, Drop):
        return verdict.rule.split(".")[1]
    assert verdict == text
    return ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("min-words", PROSE),
        ("max-words", PROSE * 8000),
        ("min-mean-word-length", "a be of " * 40),
        ("max-mean-word-length", "extraordinarily " * 60 + "the be"),
        ("max-hash-ratio", PROSE * 5 + "#" * 20),
        ("max-ellipsis-ratio", PROSE * 5 + "and... " * 20 + "end"),
        ("max-bullet-line-share", ("• " + PROSE + "\n") * 10),
        ("max-ellipsis-line-share", (PROSE + "\n") * 10 + "and so on …\n" * 6),
        ("min-alphabetic-word-share", PROSE * 5 + "1234 " * 30),
        ("min-stop-words", "Some words without any common little ones inside here " * 10),
        ("", PROSE * 5),
    ],
)
def test_each_rule_of_quality_drops_by_its_name(name: str, text: str) -> None:
    assert quality(text) == name
    if name:
        assert quality(text, **{name.replace("-", "_"): None}) == ""
        assert f"gopher-quality.{name}" in GopherQuality(type="gopher-quality").rules()


def test_stop_words_of_another_language_are_a_setting() -> None:
    german = "Das ist ein Text und er hat genug der Wörter mit denen man rechnet " * 6
    assert quality(german) == "min-stop-words"
    assert quality(german, stop_words=("und", "der", "mit")) == ""


def sentence(seed: int, words: int = 20) -> str:
    generator = random.Random(seed)
    return " ".join("".join(generator.choices("abcdefghij", k=generator.randint(3, 7))) for _ in range(words))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max-paragraph-share", "\n\n".join([*(sentence(i, 200) for i in range(4)), *["short one"] * 4])),
        ("max-paragraph-character-share", "\n\n".join([*(sentence(i) for i in range(8)), *[sentence(0, 60)] * 2])),
        ("max-line-share", "\n".join([*(sentence(i, 200) for i in range(4)), *["short one"] * 4])),
        ("max-line-character-share", "\n".join([*(sentence(i) for i in range(8)), *[sentence(0, 60)] * 2])),
        ("max-top-2-gram-share", " ".join(f"{sentence(i, 2)} remarkable coincidence" for i in range(20))),
        ("max-top-3-gram-share", " ".join(f"{sentence(i, 9)} very remarkable coincidences" for i in range(20))),
        ("max-top-4-gram-share", " ".join(f"{sentence(i, 14)} most truly remarkable coincidences" for i in range(20))),
        ("max-repeated-5-gram-share", " ".join([sentence(1, 70), sentence(2, 8), sentence(3, 8)] * 2)),
        ("max-repeated-10-gram-share", sentence(1, 137) + " " + sentence(1, 23)),
        ("", sentence(1, 200)),
    ],
)
def test_each_rule_of_repetition_drops_by_its_name(name: str, text: str) -> None:
    assert repetition(text) == name
    if name:
        assert f"gopher-repetition.{name}" in GopherRepetition(type="gopher-repetition").rules()


def test_a_text_without_words_is_no_error() -> None:
    assert quality("", min_words=None, min_mean_word_length=None, min_alphabetic_word_share=None) == "min-stop-words"
    assert repetition("") == repetition("word") == ""


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real text, some of it with lines or runs of words repeated."""
    files = (path.read_text(encoding="utf-8", errors="replace")[:4000] for _, path in library_files()[:150])
    real = [text.strip() for text in (*files, *(text[:8000] for _, text in help_topics())) if text.strip()]
    generator = random.Random(1)
    repeated = []
    for text in real:
        words, lines = text.split()[:300], text.split("\n")
        start, size = generator.randrange(len(words)), generator.randint(2, 30)
        repeated += [" ".join(words + words[start : start + size] * times) for times in (2, 5, 10)]
        repeated.append("\n".join(lines + lines[: len(lines) // generator.randint(1, 6)]).strip())
        repeated.append("\n\n".join(lines + lines[: len(lines) // generator.randint(2, 9)]).strip())
    return real + repeated


@pytest.fixture
def datatrove(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[str, ...]]:
    """datatrove's filters, on words between white space."""
    reason = "datatrove, the oracle, is not installed"
    quality_module = pytest.importorskip("datatrove.pipeline.filters.gopher_quality_filter", reason=reason)
    repetition_module = pytest.importorskip("datatrove.pipeline.filters.gopher_repetition_filter", reason=reason)
    data = pytest.importorskip("datatrove.data")
    for module in (quality_module, repetition_module):
        monkeypatch.setattr(module, "split_into_words", lambda text, language: text.split())

    def verdict(filter_class: Any, text: str) -> str:
        result = filter_class.filter(data.Document(text=text, id="0"))
        return "" if result is True else THEIR_NAMES[result[1]]

    filters = (quality_module.GopherQualityFilter(), repetition_module.GopherRepetitionFilter())
    return lambda text: tuple(verdict(each, text) for each in filters)


def test_verdicts_are_those_of_datatrove(texts: list[str], datatrove: Callable[[str], tuple[str, ...]]) -> None:
    verdicts = [(quality(text), repetition(text)) for text in texts]
    assert verdicts == [datatrove(text) for text in texts]
    # The comparison means something: many rules are hit.
    assert len({name for pair in verdicts for name in pair}) > 12


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 5), st.floats(0, 1))
def test_repeated_runs_are_counted_as_a_plain_loop_counts(words: list[str], n: int, share: float) -> None:
    text = " ".join(words)
    seen: set[tuple[str, ...]] = set()
    place = characters = 0
    while place <= len(words) - n:
        run = tuple(words[place : place + n])
        characters += n * (run in seen)
        place += n if run in seen else 1
        seen.add(run)
    off = {"max_line_share": None, "max_paragraph_share": None, "max_top_ngram_share": {}}
    assert bool(repetition(text, max_repeated_ngram_share={n: share}, **off)) == (characters > share * len(text))


def test_runs_have_at_least_one_word() -> None:
    for key in ("max_top_ngram_share", "max_repeated_ngram_share"):
        for words in (0, -3, 101):
            with pytest.raises(ValidationError, match=f"{key}.{words}"):
                GopherRepetition.model_validate({"type": "gopher-repetition", key: {words: 0.1}})
