"""The comparison of engines finds every difference: shown on pairs of `tokenizers` that differ in a known way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

from trainer.data.tokenizers import parity
from trainer.data.tokenizers.config import Style
from trainer.data.tokenizers.parity import LLAMA3, Encode, compare, unsupported
from trainer.data.tokenizers.ranks import PATTERNS

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@pytest.fixture
def tokenizer(trained: dict[Style, Tokenizer]) -> Tokenizer:
    copy = Tokenizer.from_str(trained["gpt2"].to_str())
    copy.encode_special_tokens = True
    return copy


def split_by(pattern: str) -> Any:
    steps = [
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    return pre_tokenizers.Sequence(steps)


def engine(pattern: str, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Callable[[str], Encode]:
    """An engine that splits words by `pattern`, whatever it is told, and reads a changed JSON."""

    def load(content: str) -> Encode:
        spec = json.loads(content)
        change(spec)
        other = Tokenizer.from_str(json.dumps({"added_tokens": [], **spec}))
        other.pre_tokenizer = split_by(pattern)
        return lambda text: other.encode(text).ids

    return load


@pytest.fixture
def few_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough of them for the differences below."""
    monkeypatch.setattr(
        parity, "tried_characters", lambda: [chr(code) for code in (*range(0x500), *range(0x3040, 0x3400))]
    )


@pytest.mark.usefixtures("few_characters")
def test_equal_engines_do_not_differ(tokenizer: Tokenizer) -> None:
    found = compare(tokenizer, engine(GPT2))
    assert (found.difference, found.unlike) == (None, "")


@pytest.mark.usefixtures("few_characters")
@pytest.mark.parametrize(
    ("pattern", "unlike"),
    [
        (GPT2.replace(r" ?\p{L}+", " ?[\\p{L}\u32c0]+").replace(r"[^\s", "[^\\s\u32c0"), "\u32c0"),
        (GPT2.replace(r"[^\s\p{L}\p{N}]", "[^\\s\\p{L}\\p{N}\u3200\u0375]"), "\u0375\u3200"),
        (GPT2.replace(r"\p{N}", r"\p{Nd}"), None),
    ],
)
def test_characters_of_another_class_are_found(pattern: str, unlike: str | None, tokenizer: Tokenizer) -> None:
    found = compare(tokenizer, engine(pattern))
    if unlike is None:
        # Roman numerals and the like: many.
        assert {"\u00b2", "\u00bd", "\u3280"} <= set(found.unlike)
        assert not any(character.isalpha() for character in found.unlike)
    else:
        assert (found.difference, found.unlike) == (None, unlike)


@pytest.mark.usefixtures("few_characters")
@pytest.mark.parametrize(
    "pattern",
    [
        GPT2.replace("'s|", ""),
        GPT2.replace("'s|", "(?i:'s)|"),
        GPT2.replace(r"|\s+(?!\S)", ""),
        GPT2.replace(r"\p{N}+", r"\p{N}{1,3}"),
        GPT2.replace(r" ?\p{L}+", r"\p{L}+"),
        PATTERNS["cl100k"],
    ],
)
def test_another_pattern_is_found(pattern: str, tokenizer: Tokenizer) -> None:
    found = compare(tokenizer, engine(pattern))
    assert found.difference is not None
    assert len(found.difference) < 200


def without_a_merge(spec: dict[str, Any]) -> None:
    if len(spec["model"]["vocab"]) == 1199:
        spec["model"]["merges"].pop(100)


def in_another_order(spec: dict[str, Any]) -> None:
    if len(spec["model"]["vocab"]) == 1199:
        spec["model"]["merges"].reverse()


def with_ids_exchanged(spec: dict[str, Any]) -> None:
    vocabulary = spec["model"]["vocab"]
    if len(vocabulary) == 1199:
        vocabulary["!"], vocabulary["#"] = vocabulary["#"], vocabulary["!"]


@pytest.mark.usefixtures("few_characters")
@pytest.mark.parametrize("change", [without_a_merge, in_another_order, with_ids_exchanged])
def test_another_vocabulary_is_found(change: Callable[[dict[str, Any]], None], tokenizer: Tokenizer) -> None:
    assert compare(tokenizer, engine(GPT2, change)).difference is not None


def test_what_is_tried_covers_every_character_or_its_block() -> None:
    tried = {ord(character) for character in parity.tried_characters()}
    left_out = [code for code in range(0x110000) if code not in tried and not 0xD800 <= code < 0xE000]
    for block in parity.UNIFORM:
        assert len(tried & set(block)) == -(-len(block) // parity.STRIDE)
    assert all(any(code in block for block in parity.UNIFORM) for code in left_out[::997])
    assert "".join(map(chr, range(0x4E00 - 61, 0x4E00))) not in parity.widened("\u4e00")
    assert set(parity.widened("\u4e3d")) == {chr(code) for code in range(0x4E00, 0x4E3D + 61)}


FORMS: dict[str, tuple[Style, Callable[[Tokenizer], Any], str | None]] = {
    "gpt2": ("gpt2", lambda _: None, None),
    "trained before": ("byte-level", lambda _: None, None),
    "llama": ("llama", lambda _: None, None),
    "cl100k": ("gpt2", lambda t: setattr(t, "pre_tokenizer", split_by(PATTERNS["cl100k"])), None),
    "o200k": ("gpt2", lambda t: setattr(t, "pre_tokenizer", split_by(PATTERNS["o200k"])), None),
    "llama 3": ("gpt2", lambda t: setattr(t, "pre_tokenizer", split_by(LLAMA3)), None),
    "another pattern": ("gpt2", lambda t: setattr(t, "pre_tokenizer", split_by(GPT2 + "x")), "splits words"),
    "a space in front": (
        "gpt2",
        lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "splits words",
    ),
    "no splitting": ("gpt2", lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Sequence([])), "splits words"),
    "normalised": ("gpt2", lambda t: setattr(t, "normalizer", normalizers.NFC()), "normalises"),
    "normalised llama": ("llama", lambda t: setattr(t, "normalizer", normalizers.NFC()), "normalises"),
    "split llama": ("llama", lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Metaspace()), "splits words"),
    "ordinary added tokens": ("gpt2", lambda t: t.add_tokens([AddedToken("  ")]), "not special"),
    "dropout": ("gpt2", lambda t: setattr(t.model, "dropout", 0.5), "dropout"),
}


@pytest.mark.parametrize(("style", "change", "reason"), FORMS.values(), ids=FORMS.keys())
def test_only_known_forms_are_supported(
    style: Style, change: Callable[[Tokenizer], Any], reason: str | None, trained: dict[Style, Tokenizer]
) -> None:
    tokenizer = Tokenizer.from_str(trained[style].to_str())
    change(tokenizer)
    found = unsupported(json.loads(tokenizer.to_str()))
    assert (found is None) if reason is None else (found is not None and reason in found)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("model", "type"), "WordPiece", "is WordPiece"),
        (("model", "continuing_subword_prefix"), "##", "continuing_subword_prefix"),
        (("model", "merges"), [["a", "b"], ["a", "b"]], "twice"),
        (("model", "vocab"), {"a": 0}, "256 bytes"),
    ],
)
def test_models_that_are_read_differently_are_not_supported(
    path: tuple[str, str], value: Any, reason: str, trained: dict[Style, Tokenizer]
) -> None:
    for style in ("gpt2", "llama"):
        spec = json.loads(trained[style].to_str())
        spec[path[0]][path[1]] = value
        found = unsupported(spec)
        assert found is not None
        assert reason in found
