"""Language identification with the model that comes in a wheel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.data.clean.base import Drop
from trainer.data.clean.language import Language, identify
from trainer.errors import UserError

# The first article of the Universal Declaration of Human Rights.
ARTICLES = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos, dotados como están de razón.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.",  # noqa: RUF001 - Russian
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",  # noqa: RUF001 - Chinese
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
}


def verdict(text: str, *keep: str, **settings: Any) -> str | Drop:
    return Language(type="language", keep=keep, **settings).apply(text)


@pytest.mark.parametrize("language", ARTICLES)
def test_languages_are_told_apart(language: str) -> None:
    text = ARTICLES[language]
    assert identify(text)[0] == language
    assert verdict(text, language) == text
    assert verdict(text, "it", "pt") == Drop("language.other")


def test_an_unsure_verdict_has_a_name_of_its_own() -> None:
    text = ARTICLES["en"]
    confidence = identify(text)[1]
    assert verdict(text, "en", min_confidence=min(1.0, confidence + 1e-3)) == Drop("language.unsure")
    assert verdict(text, "en", min_confidence=confidence) == text


@pytest.mark.parametrize("text", ["", " \n ", "\ud800"])
def test_a_text_without_words_has_no_language(text: str) -> None:
    assert isinstance(verdict(text, "en"), Drop)


def test_beginning_middle_and_end_are_judged() -> None:
    # A page whose navigation is in English.
    text = ARTICLES["en"] * 3 + "\n" + ARTICLES["de"] * 30
    assert identify(text, sample_characters=900)[0] == "de"


def test_time_does_not_grow_with_the_text() -> None:
    from trainer.data.clean import language as module

    assert len(module._sample("word " * 100_000, 900)) <= 900 + 2


def test_a_language_that_the_model_does_not_know_is_an_error() -> None:
    with pytest.raises(UserError, match="knows no english, xx"):
        verdict(ARTICLES["de"], "english", "xx")


def test_a_bad_model_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.ftz"
    for content in (None, b"not a model"):
        if content is not None:
            path.write_bytes(content)
        for call in (lambda: verdict("text", "en", model=str(path)), lambda: language_of(path).method()):
            with pytest.raises(UserError, match=r"model\.ftz"):
                call()


def language_of(path: Path) -> Language:
    return Language(type="language", keep=("en",), model=str(path))


def test_the_method_names_the_model() -> None:
    from trainer.data.clean import language as module

    installed = module._installed_model()
    assert Language(type="language", keep=("en",)).method() == language_of(installed).method()
    assert len(language_of(installed).method()) == 64


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.data.clean import language as module

    monkeypatch.setitem(sys.modules, "fasttext", None)
    module._model.cache_clear()
    with pytest.raises(UserError, match=r"gpt-run\[data\]"):
        verdict("text", "en")
    module._model.cache_clear()
