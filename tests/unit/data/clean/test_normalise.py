"""Normalisation: what changes, what stays, and that a second pass changes nothing."""

from __future__ import annotations

import sys
import unicodedata
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.clean.base import Drop
from trainer.data.clean.normalise import Normalise
from trainer.errors import UserError

ALPHABET = "ab \t\n\r\x0b\x00\x85\xa0\xad\u2028\u200b\u200d\u3000\ufeff\ufb01e\u0301é\ud800\U0001f600"


def normalise(text: str, **settings: Any) -> str | Drop:
    return Normalise(type="normalise", **settings).apply(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("nul\x00 bell\x07 del\x7f c1\x9f", "nul bell del c1"),
        ("\ufeffsoft\xadhyphen zero\u200bwidth", "softhyphen zerowidth"),
        ("e\u0301", "é"),
        ("no\xa0break\u3000wide", "no break wide"),
        ("  indented  twice  \n\tand tab\t\n", "  indented  twice\n\tand tab"),
        ("\n \n\na\n\n\n\nb\n\n", "a\n\nb"),
        ("bad \ud83d half", "bad \ufffd half"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("family \U0001f468\u200d\U0001f469", "family \U0001f468\u200d\U0001f469"),
        ("\ufb01ne \xb2", "\ufb01ne \xb2"),
    ],
)
def test_text_is_normalised(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_what_is_switched_off_stays() -> None:
    text = " e\u0301\x00\r\n\n\n\n\xa0"
    assert normalise(text, unicode="none", control_characters=False, white_space=False) == text


def test_nfkc_makes_plain_characters() -> None:
    assert normalise("\ufb01ne \xb2 \uff21", unicode="nfkc") == "fine 2 A"


@pytest.mark.parametrize("text", ["", " \n\t", "\ufeff\x00"])
def test_nothing_left_is_dropped(text: str) -> None:
    assert normalise(text) == Drop("normalise.empty")
    assert Normalise(type="normalise").rules() == ("normalise.empty",)


@given(st.text(ALPHABET), st.sampled_from(["nfc", "nfkc"]))
def test_a_second_pass_changes_nothing(text: str, form: Literal["nfc", "nfkc"]) -> None:
    once = normalise(text, unicode=form)
    if isinstance(once, str):
        assert normalise(once, unicode=form) == once
        assert unicodedata.is_normalized("NFC", once)
        assert not any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in once)


@pytest.mark.parametrize(
    ("broken", "whole"),
    [("schÃ¶n â€œquotedâ€\x9d", "schön “quoted”"), ("it\u2019s fine", "it\u2019s fine"), ("plain", "plain")],
)
def test_mojibake_is_repaired_on_request(broken: str, whole: str) -> None:
    assert normalise(broken, mojibake=True) == whole
    assert Normalise(type="normalise", mojibake=True).method().startswith("ftfy ")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.data.clean import normalise as module

    module._ftfy.cache_clear()
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(UserError, match=r"ftfy.*\n.*\n.*gpt-run\[data\]"):
        normalise("schÃ¶n", mojibake=True)
