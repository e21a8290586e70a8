"""tiktoken's rank files: the same ids from `tokenizers`, compared with tiktoken itself; bad files are refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from trainer.data.tokenizer import END_OF_TEXT, end_of_text_id, vocabulary_size
from trainer.data.tokenizers.config import Style
from trainer.data.tokenizers.ranks import (
    BYTE_CHARACTERS,
    Pattern,
    join,
    parse_ranks,
    read_rank_file,
    tokenizer_of_ranks,
)
from trainer.errors import UserError

BYTES = {bytes([byte]): byte for byte in range(256)}


def rank_lines(ranks: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


def tiktoken_encoding(ranks: dict[bytes, int], pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> Any:
    """tiktoken's own definition of a pattern, with these ranks in place of those that it would download."""
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    from tiktoken_ext import openai_public

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: ranks)
    names = {"gpt2": "r50k_base", "cl100k": "cl100k_base", "o200k": "o200k_base"}
    definition = openai_public.ENCODING_CONSTRUCTORS[names[pattern]]()
    return tiktoken.Encoding("ours", pat_str=definition["pat_str"], mergeable_ranks=ranks, special_tokens={})


def test_gpt2_is_gpt2(rank_files: Path) -> None:
    tokenizer = read_rank_file(str(rank_files / "gpt2.tiktoken"), None, None)
    assert (vocabulary_size(tokenizer), end_of_text_id(tokenizer)) == (50257, 50256)
    assert tokenizer.encode("Hello world").ids == [15496, 995]
    assert tokenizer.encode(f"a{END_OF_TEXT}").ids == [64, 50256]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [("multilingual.tiktoken", "gpt2"), *(("gpt2.tiktoken", pattern) for pattern in ("gpt2", "cl100k", "o200k"))],
)
def test_ids_are_those_of_tiktoken_on_real_text(
    file: str, pattern: Pattern, rank_files: Path, library_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks, _ = parse_ranks((rank_files / file).read_bytes(), file)
    encoding = tiktoken_encoding(ranks, pattern, monkeypatch)
    tokenizer = tokenizer_of_ranks(ranks, pattern, {END_OF_TEXT: 50300}, file)
    tokenizer.encode_special_tokens = True
    ends = ["a\n  ", " \n \n", "a  \n\n  b", "\r\n\r\n ", "x \u00a0\u2003", "  "]
    texts = [*library_texts, *ends]
    ours = [row.ids for row in tokenizer.encode_batch_fast(texts)]
    assert ours == encoding.encode_ordinary_batch(texts, num_threads=1)


@pytest.fixture(scope="module")
def learned_ranks(trained: dict[Style, Tokenizer]) -> dict[bytes, int]:
    """Ranks as BPE learned them on the library's text."""
    byte_of = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
    vocabulary = trained["gpt2"].get_vocab(with_added_tokens=False)
    tokens = {token: number for token, number in vocabulary.items() if token != END_OF_TEXT}
    return {bytes(byte_of[character] for character in token): number for token, number in tokens.items()}


def test_learned_pairs_are_found_again(learned_ranks: dict[bytes, int], trained: dict[Style, Tokenizer]) -> None:
    again = tokenizer_of_ranks(learned_ranks, "gpt2", {END_OF_TEXT: 1199}, "ranks")
    assert json.loads(again.to_str())["model"]["merges"] == json.loads(trained["gpt2"].to_str())["model"]["merges"]
    assert again.get_vocab() == trained["gpt2"].get_vocab()


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k", "o200k"])
def test_ids_are_those_of_tiktoken_on_any_text(
    pattern: Pattern, learned_ranks: dict[bytes, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding = tiktoken_encoding(learned_ranks, pattern, monkeypatch)
    tokenizer = tokenizer_of_ranks(learned_ranks, pattern, {}, "learned")

    # Both have their own Unicode: of scripts that were added of late one knows more than the other.
    @given(st.text(st.one_of(st.characters(max_codepoint=0x85F), st.sampled_from("中文語한글—\u2019“😀\u2003\u3000①"))))
    def ids_are_equal(text: str) -> None:
        assert tokenizer.encode(text).ids == encoding.encode_ordinary(text)

    ids_are_equal()


def test_a_filler_keeps_its_id_empty(rank_files: Path) -> None:
    tokenizer = read_rank_file(str(rank_files / "multilingual.tiktoken"), "gpt2", None)
    assert (end_of_text_id(tokenizer), vocabulary_size(tokenizer)) == (50257, 50258)
    assert tokenizer.id_to_token(50256) == "<|unused50256|>"
    assert tokenizer.encode("<|unused50256|>").ids == tokenizer.encode("<|un").ids + tokenizer.encode("used50256|>").ids


def test_tokens_are_joined_from_lower_ranks_only() -> None:
    ranks = BYTES | {b"ab": 256, b"cd": 257, b"abcd": 258, b"bc": 259}
    assert join(b"abcd", ranks, below=258) == [b"ab", b"cd"]
    assert join(b"abcd", ranks, below=257) == [b"ab", b"c", b"d"]
    assert join(b"abcd", ranks, below=1000) == [b"abcd"]


def test_a_file_may_lie_in_a_store() -> None:
    MemoryFileSystem().pipe_file("/ranks/gpt2.tiktoken", rank_lines(BYTES | {b"ab": 256}))
    tokenizer = read_rank_file("memory://ranks/gpt2.tiktoken", None, None)
    assert tokenizer.encode("ab").ids == [256]
    assert end_of_text_id(tokenizer) == 50256


BAD_CONTENT = {
    "not base64": (b"?? 1\n", "line 1: '\\?\\? 1' is no token"),
    "no rank": (rank_lines(BYTES) + b"YWI=\n", "line 257: 'YWI=' is no token"),
    "a negative rank": (b"YQ== -1\n", "line 1: rank -1"),
    "a rank twice": (b"YQ== 1\nYg== 1\n", "line 2: rank 1 or its token is there twice"),
    "a token twice": (b"YQ== 1\nYQ== 2\n", "line 2: rank 2 or its token is there twice"),
    "bytes that are missing": (b"YQ== 1\n", "no token for the byte 0x00 and 254 others"),
    "another order": (rank_lines(BYTES | {b"abc": 256, b"ab": 257}), "token 256, 'abc', does not come from two tokens"),
}


@pytest.mark.parametrize(("content", "found"), BAD_CONTENT.values(), ids=BAD_CONTENT.keys())
def test_a_bad_file_is_refused_with_its_line(content: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "gpt2.tiktoken").write_bytes(content)
    with pytest.raises(UserError, match=found):
        read_rank_file(str(tmp_path / "gpt2.tiktoken"), None, None)


def test_what_the_file_does_not_say_has_to_be_given(tmp_path: Path) -> None:
    (tmp_path / "mine.tiktoken").write_bytes(rank_lines(BYTES))
    path = str(tmp_path / "mine.tiktoken")
    with pytest.raises(UserError, match="does not say how text is split into words") as caught:
        read_rank_file(path, None, None)
    assert "gpt2, cl100k, o200k" in caught.value.expected
    assert end_of_text_id(read_rank_file(path, "cl100k", None)) == 256
    assert read_rank_file(path, "gpt2", {"<|end|>": 300}).token_to_id("<|end|>") == 300
    with pytest.raises(UserError, match="no rank file"):
        read_rank_file(str(tmp_path / "none.tiktoken"), "gpt2", None)


@pytest.mark.parametrize("special", [{"<|x|>": 97}, {"": 300}, {"a": 300}, {"<|x|>": 300, "<|y|>": 300}, {"<|x|>": -1}])
def test_a_special_token_needs_a_text_and_an_id_of_its_own(special: dict[str, int]) -> None:
    with pytest.raises(UserError, match="cannot have id"):
        tokenizer_of_ranks(BYTES, "gpt2", special, "ranks")
