"""Verification: sound tokenizers pass, each fault is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from trainer.data.tokenizers.config import FileTokenizer, Style, existing_tokenizer
from trainer.data.tokenizers.pipeline import import_tokenizer
from trainer.data.tokenizers.verify import read_texts, verify_tokenizer
from trainer.errors import UserError

TEXTS = ["four words of text", "and\nmore of them"]


def saved(tokenizer: Tokenizer, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


@pytest.mark.parametrize("style", ["byte-level", "gpt2", "llama"])
def test_a_trained_tokenizer_is_sound(
    style: Style, tmp_path: Path, trained: dict[Style, Tokenizer], library_texts: list[str]
) -> None:
    settings = FileTokenizer(type="file", path=saved(trained[style], tmp_path / "t"))
    folder = import_tokenizer(settings, tmp_path / "out").folder
    report = verify_tokenizer(str(folder), library_texts[-30:])
    assert report.problems == []
    assert report.vocab_size == {"byte-level": 1000, "gpt2": 1200, "llama": 2000}[style]
    assert report.missing_ids == 0
    assert 0 < report.unused_ids < report.vocab_size


def test_transformers_loads_the_folder_with_equal_ids(tmp_path: Path, trained: dict[Style, Tokenizer]) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    for style, tokenizer in trained.items():
        settings = FileTokenizer(type="file", path=saved(tokenizer, tmp_path / style))
        folder = import_tokenizer(settings, tmp_path / f"{style}-out").folder
        assert verify_tokenizer(str(folder), TEXTS).hugging_face == "equal"
        loaded = transformers.AutoTokenizer.from_pretrained(folder)
        assert (
            type(loaded).is_fast_tokenizer if hasattr(type(loaded), "is_fast_tokenizer") else loaded.is_fast
        ) is True
        assert loaded(TEXTS[0])["input_ids"] == tokenizer.encode(TEXTS[0]).ids
        assert loaded.decode(loaded(TEXTS[0])["input_ids"]) == TEXTS[0]
        assert loaded.eos_token == ("</s>" if style == "llama" else "<|endoftext|>")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("{", "is not a tokenizer's configuration: Expecting property name"),
        ('{"eos_token": 5}', "transformers does not take it: TypeError: Special token eos_token"),
        ('{"model_max_length": "x"}', "transformers does not take it: TypeError"),
    ],
)
def test_a_configuration_that_does_not_load_is_a_problem(
    config: str, problem: str, tmp_path: Path, trained: dict[Style, Tokenizer]
) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    path = saved(trained["gpt2"], tmp_path / "t")
    (tmp_path / "t" / "tokenizer_config.json").write_text(config)
    report = verify_tokenizer(path, TEXTS)
    assert report.hugging_face == "not loaded"
    assert [problem in found for found in report.problems] == [True]


def test_the_real_gpt2_is_sound(rank_files: Path, tmp_path: Path, library_texts: list[str]) -> None:
    settings = existing_tokenizer(str(rank_files / "gpt2.tiktoken"), None, [])
    folder = import_tokenizer(settings, tmp_path / "out").folder
    report = verify_tokenizer(str(folder), library_texts[:20], vocab_size=50257)
    assert report.problems == []
    assert (report.eos_id, report.special_tokens) == (50256, {"<|endoftext|>": 50256})
    assert 2 < report.bytes_per_token < 4


def test_fertility_is_counted_in_words_and_bytes(tmp_path: Path) -> None:
    vocabulary = {token: number for number, token in enumerate(["<|endoftext|>", *pre_tokenizers.ByteLevel.alphabet()])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    report = verify_tokenizer(saved(tokenizer, tmp_path), ["two w\u00f6rds", "one"])
    assert (report.documents, report.bytes, report.tokens) == (2, 13, 13)
    assert report.tokens_per_word == pytest.approx(13 / 3)
    assert report.bytes_per_token == 1
    assert report.unused_ids == 257 - len(set("two wrdsone")) - 2


def lower_case(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Lowercase()


def stripping(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Strip()


def plain_end(tokenizer: Tokenizer) -> Tokenizer:
    """Its end of text is in the vocabulary, but not marked as special."""
    spec = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**spec, "added_tokens": []}))


def without_end(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer.from_str(tokenizer.to_str().replace("<|endoftext|>", "<|other|>"))


def ordinary_added(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken(" of ", lstrip=True, rstrip=True, special=False)])


FAULTS: dict[str, tuple[Callable[[Tokenizer], Any], str]] = {
    "lower case": (lower_case, "text does not come back as it was: \"I'm, you're"),
    "white space": (stripping, "text does not come back as it was: ' ' became ''"),
    "end not special": (plain_end, "'<|endoftext|>', which ends documents, is not marked as special"),
    "no end": (without_end, "the tokenizer has no end-of-text token"),
    "spaces around a token": (ordinary_added, "text does not come back as it was: "),
}


@pytest.mark.parametrize(("change", "found"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named(
    change: Callable[[Tokenizer], Any], found: str, tmp_path: Path, trained: dict[Style, Tokenizer]
) -> None:
    tokenizer = Tokenizer.from_str(trained["byte-level"].to_str())
    tokenizer = change(tokenizer) or tokenizer
    report = verify_tokenizer(saved(tokenizer, tmp_path), ["two  of  them"])
    assert any(problem.startswith(found) for problem in report.problems), report.problems
    assert f"PROBLEM: {report.problems[0]}" in report.as_text()


def test_another_size_than_expected_is_a_problem(tmp_path: Path, trained: dict[Style, Tokenizer]) -> None:
    report = verify_tokenizer(saved(trained["gpt2"], tmp_path), TEXTS, vocab_size=50257)
    assert report.problems == ["the vocabulary has 1200 ids, 50257 were expected"]


def test_the_sign_that_llama_writes_for_a_space_is_a_note(tmp_path: Path, trained: dict[Style, Tokenizer]) -> None:
    report = verify_tokenizer(saved(trained["llama"], tmp_path), ["a \u2581 sign", "none"])
    assert report.problems == []
    assert report.notes == ["1 documents have the sign \u2581 (U+2581), which comes back as a space"]


def test_text_is_read_from_files_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("a\u00e9" * 10, encoding="utf-8")
    assert read_texts([str(path)]) == ["a\u00e9" * 10]
    # The cut goes through a character.
    assert read_texts([str(path)], max_bytes=5) == ["a\u00e9a"]
    path.write_bytes(b"abc\xffdef")
    with pytest.raises(UserError, match=r"t\.txt, byte 3: not UTF-8"):
        read_texts([str(path)])
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="no file"):
            read_texts([str(missing)])
    assert sum(len(text.encode()) for text in read_texts([], max_bytes=10_000)) >= 10_000


def test_no_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a tokenizer"):
        verify_tokenizer(str(tmp_path), TEXTS)
