"""Training: sizes, layouts of ids, nothing lost, the same result on any number of cores."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from trainer.data.tokenizer import END_OF_TEXT, end_of_text_id, vocabulary_size
from trainer.data.tokenizers.config import BpeTokenizer, Style
from trainer.data.tokenizers.ranks import BYTE_CHARACTERS
from trainer.data.tokenizers.train import SPACE, train_tokenizer

TEXTS = [
    Path(json.__file__).read_text(encoding="utf-8"),
    "ein paar Wörter mehr: schön, größer, 中文",
    "\ttabs\n\n    four",
]
STYLES: dict[Style, Tokenizer] = {
    style: train_tokenizer(BpeTokenizer(type="bpe", style=style, vocab_size=600), TEXTS)
    for style in ("byte-level", "gpt2", "llama")
}

TRAIN_AND_PRINT = """
import hashlib
from trainer.data import corpus
from trainer.data.tokenizers.config import BpeTokenizer
from trainer.data.tokenizers.train import train_tokenizer
texts = [path.read_text(encoding="utf-8", errors="replace") for _, path in corpus.library_files()[:20]]
for style in ("byte-level", "gpt2", "llama"):
    tokenizer = train_tokenizer(BpeTokenizer(type="bpe", style=style, vocab_size=1000), texts)
    print(hashlib.sha256(tokenizer.to_str().encode()).hexdigest())
"""


@pytest.mark.parametrize("style", STYLES)
@given(text=st.text())
def test_any_text_comes_back(style: Style, text: str) -> None:
    tokenizer = STYLES[style]
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    special = {END_OF_TEXT, "<unk>", "<s>", "</s>"}
    assert special.isdisjoint(tokenizer.id_to_token(number) for number in ids)
    # LLaMA's way of writing a space cannot be told from a space.
    expected = text.replace(SPACE, " ") if style == "llama" else text
    assert tokenizer.decode(ids, skip_special_tokens=False) == expected


def test_all_styles_have_the_size_asked_for() -> None:
    assert {style: vocabulary_size(tokenizer) for style, tokenizer in STYLES.items()} == dict.fromkeys(STYLES, 600)


def test_gpt2_has_bytes_first_and_the_end_of_text_last() -> None:
    tokenizer = STYLES["gpt2"]
    assert end_of_text_id(tokenizer) == 599
    # As GPT-2's own vocabulary begins: by the code of the character that stands for the byte.
    assert [tokenizer.id_to_token(number) for number in range(256)] == sorted(BYTE_CHARACTERS)
    assert STYLES["byte-level"].token_to_id(END_OF_TEXT) == 0


def test_llama_has_its_special_tokens_and_bytes_first() -> None:
    tokenizer = STYLES["llama"]
    assert [tokenizer.id_to_token(number) for number in (0, 1, 2, 3, 258)] == [
        "<unk>",
        "<s>",
        "</s>",
        "<0x00>",
        "<0xFF>",
    ]
    assert end_of_text_id(tokenizer) == 2
    assert tokenizer.encode("中", add_special_tokens=False).tokens[-3:] == ["<0xE4>", "<0xB8>", "<0xAD>"]


def test_llama_takes_spaces_into_words_and_digits_one_by_one() -> None:
    tokens = list(STYLES["llama"].get_vocab())
    assert {f"{SPACE}the", SPACE * 2} <= set(tokens)
    learned = [token for token in tokens if not token.startswith("<")]
    assert not [token for token in learned if len(token) > 1 and any(character.isdigit() for character in token)]
    assert not [token for token in learned if SPACE in token.lstrip(SPACE)]


def test_rare_characters_are_no_neighbours_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.tokenizers.train.CHARACTER_COVERAGE", 0.9)
    settings = BpeTokenizer(type="bpe", style="llama", vocab_size=300)
    tokens = train_tokenizer(settings, ["ab\u4e2dcd " * 200, "e" * 4000]).get_vocab()
    assert "\u4e2d" not in tokens
    assert "bc" not in tokens


def test_the_number_of_cores_does_not_matter() -> None:
    outputs = []
    for threads in ("1", "3"):
        command = [sys.executable, "-c", TRAIN_AND_PRINT]
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"}
        outputs.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert outputs[0] == outputs[1]
    assert len({*outputs[0].split(), hashlib.sha256().hexdigest()}) == 4


def test_too_little_text_gives_a_smaller_tokenizer() -> None:
    for style in STYLES:
        tokenizer = train_tokenizer(BpeTokenizer(type="bpe", style=style, vocab_size=5000), ["short"])
        assert vocabulary_size(tokenizer) < 300
