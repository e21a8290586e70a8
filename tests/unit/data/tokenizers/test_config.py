"""What a pipeline's `tokenizer` block and the command line may name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pydantic import TypeAdapter, ValidationError
from tokenizers import Tokenizer

from trainer.data.tokenizer import tokenizer_fingerprint
from trainer.data.tokenizers.config import (
    BpeTokenizer,
    FileTokenizer,
    HuggingFaceTokenizer,
    Style,
    TiktokenTokenizer,
    TokenizerSettings,
    existing_tokenizer,
    load_tokenizer_spec,
    load_with_names,
    tokenizer_label,
)
from trainer.errors import UserError

SETTINGS: TypeAdapter[Any] = TypeAdapter(TokenizerSettings)


def test_a_style_brings_its_size() -> None:
    sizes = {style: BpeTokenizer(type="bpe", style=style).size for style in ("gpt2", "llama")}
    assert sizes == {"gpt2": 50257, "llama": 32000}
    assert BpeTokenizer(type="bpe", vocab_size=300).size == 300


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ({"type": "bpe"}, "vocab_size is missing"),
        ({"type": "bpe", "style": "llama", "vocab_size": 259}, "needs at least 260"),
        ({"type": "bpe", "vocab_size": 256}, "greater than or equal to 257"),
        ({"type": "huggingface", "name": "a/b/c"}, "match pattern"),
        ({"type": "huggingface", "name": "../x"}, "match pattern"),
        ({"type": "file", "path": ""}, "at least 1 character"),
        ({"type": "words"}, "does not match any of the expected tags"),
    ],
)
def test_settings_that_make_no_sense_are_refused(raw: dict[str, Any], found: str) -> None:
    with pytest.raises(ValidationError, match=found):
        SETTINGS.validate_python(raw)


def test_a_file_is_found_by_its_folder_too(tmp_path: Path, trained: dict[Style, Tokenizer]) -> None:
    tokenizer = trained["llama"]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    expected = tokenizer_fingerprint(tokenizer)
    for path in (tmp_path, tmp_path / "tokenizer.json", f"file://{tmp_path}"):
        assert tokenizer_fingerprint(load_tokenizer_spec(FileTokenizer(type="file", path=str(path)))) == expected
    MemoryFileSystem().pipe_file("/t/tokenizer.json", tokenizer.to_str().encode())
    assert tokenizer_fingerprint(load_tokenizer_spec(FileTokenizer(type="file", path="memory://t"))) == expected


def test_a_folder_names_the_roles_of_its_tokens(tmp_path: Path, trained: dict[Style, Tokenizer]) -> None:
    trained["llama"].save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<pad>", "unk_token": None, "other": 1}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    settings = FileTokenizer(type="file", path=str(tmp_path))
    assert load_with_names(settings).named == {"bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": 5, "eos_token": {"name": "</s>"}}')
    assert load_with_names(settings).named == {}
    for content in ("[]", "{", "[" * 100_000):
        (tmp_path / "tokenizer_config.json").write_text(content)
        with pytest.raises(UserError, match=r"tokenizer_config\.json is not a tokenizer's configuration"):
            load_with_names(settings)


def test_a_command_line_names_any_kind() -> None:
    found = existing_tokenizer("hf://org/name@v1", None, [])
    assert found == HuggingFaceTokenizer(type="huggingface", name="org/name", revision="v1")
    assert existing_tokenizer("s3://b/t", None, []) == FileTokenizer(type="file", path="s3://b/t")
    special = {"<|end|>": 7, "a=b": 8}
    found = existing_tokenizer("x.tiktoken", None, ["<|end|>=7", "a=b=8"])
    assert found == TiktokenTokenizer(type="tiktoken", path="x.tiktoken", special_tokens=special)
    assert existing_tokenizer("ranks", "o200k", []).type == "tiktoken"


@pytest.mark.parametrize(
    ("source", "pattern", "special", "found"),
    [
        ("t.json", None, ["<|end|>=7"], "special tokens do not apply to t.json"),
        ("x.tiktoken", None, ["<|end|>"], r"special token <\|end\|>"),
        ("x.tiktoken", None, ["=7"], "special token =7"),
        ("hf://a/b/c", None, [], "hf://a/b/c: String should match"),
        ("ranks", "gpt5", [], "ranks: Input should be 'gpt2', 'cl100k' or 'o200k'"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(
    source: str, pattern: str | None, special: list[str], found: str
) -> None:
    with pytest.raises(UserError, match=found):
        existing_tokenizer(source, pattern, special)


def test_every_kind_has_a_name() -> None:
    settings = [
        BpeTokenizer(type="bpe", vocab_size=8192),
        BpeTokenizer(type="bpe", style="gpt2"),
        FileTokenizer(type="file", path="/data/mine/tokenizer.json"),
        FileTokenizer(type="file", path="s3://b/other.json"),
        TiktokenTokenizer(type="tiktoken", path="x/gpt2.tiktoken"),
        HuggingFaceTokenizer(type="huggingface", name="org/name"),
    ]
    assert [tokenizer_label(each) for each in settings] == [
        "bpe-8192",
        "gpt2-50257",
        "mine",
        "other",
        "gpt2",
        "org/name",
    ]
