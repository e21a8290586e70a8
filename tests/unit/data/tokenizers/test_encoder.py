"""The encoder: the ids of `tokenizers` whatever engine is taken, in any process; a fast engine that errs is caught."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trainer.data.tokenizers import encoder as module
from trainer.data.tokenizers import parity
from trainer.data.tokenizers.config import Style
from trainer.data.tokenizers.encoder import Encoder, choose_engine
from trainer.data.tokenizers.parity import LLAMA3, unlike_characters, widened
from trainer.data.tokenizers.ranks import Pattern, pre_tokenizer, read_rank_file, tokenizer_of_ranks
from trainer.errors import UserError

STYLES: tuple[Style, ...] = ("byte-level", "gpt2", "llama")
PATTERNS: tuple[Pattern, ...] = ("gpt2", "cl100k", "o200k")


def plain_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    return [encoding.ids for encoding in copy.encode_batch(texts, add_special_tokens=False)]


def as_lists(batch: list[Any]) -> list[list[int]]:
    return [row.tolist() for row in batch]


@pytest.fixture(scope="module")
def gigatoken() -> None:
    pytest.importorskip("gigatoken", reason="gigatoken is not installed")


@pytest.fixture(scope="module")
def fast(gigatoken: None, trained: dict[Style, Tokenizer]) -> dict[Style, Encoder]:
    """An encoder of each style with the fast engine; two styles split words alike, so one trial is enough for both."""
    gpt2, llama = choose_engine(trained["gpt2"], "gigatoken"), Encoder(trained["llama"], "gigatoken")
    return {"llama": llama} | {style: Encoder(trained[style], gpt2) for style in ("byte-level", "gpt2")}


@pytest.mark.parametrize("style", STYLES)
def test_ids_are_those_of_tokenizers(
    style: Style, trained: dict[Style, Tokenizer], fast: dict[Style, Encoder], library_texts: list[str]
) -> None:
    expected = plain_ids(trained[style], library_texts)
    for encoder in (Encoder(trained[style], "tokenizers"), fast[style]):
        batch = encoder.encode_batch(library_texts)
        assert as_lists(batch) == expected
        assert {row.dtype for row in batch} == {np.dtype("uint16")}
        assert encoder.encode_batch([]) == []


@pytest.mark.parametrize("style", STYLES)
def test_ids_are_those_of_tokenizers_on_any_text(
    style: Style, trained: dict[Style, Tokenizer], fast: dict[Style, Encoder]
) -> None:
    @given(st.lists(st.one_of(st.text(), st.text("ab1 '\u00e9\u4e2d\n\t.sS\u0cdc")), max_size=4))
    def ids_are_equal(texts: list[str]) -> None:
        assert as_lists(fast[style].encode_batch(texts)) == plain_ids(trained[style], texts)

    ids_are_equal()


@pytest.mark.parametrize("pattern", ["cl100k", "o200k", "llama3"])
@pytest.mark.usefixtures("gigatoken")
def test_ids_are_those_of_tokenizers_with_other_patterns(
    pattern: str, trained: dict[Style, Tokenizer], library_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The texts below have no other characters; the trial of all of them is another test's.
    tried = sorted({character for text in library_texts for character in text})
    monkeypatch.setattr(parity, "tried_characters", lambda: tried)
    tokenizer = _split_by(trained["gpt2"], pattern)
    encoder = Encoder(tokenizer, "gigatoken")
    assert as_lists(encoder.encode_batch(library_texts)) == plain_ids(tokenizer, library_texts)


def test_ids_of_the_real_gpt2(rank_files: Path, library_texts: list[str], fast: dict[Style, Encoder]) -> None:
    tokenizer = read_rank_file(str(rank_files / "gpt2.tiktoken"), None, None)
    encoder = Encoder(tokenizer, fast["gpt2"].choice)
    texts = [*library_texts, "a" * 100_000, " " * 70_000, "\n\t" * 50_000, "ab" * 40_000, "1" * 10_000]
    assert as_lists(encoder.encode_batch(texts)) == plain_ids(tokenizer, texts)


@pytest.mark.usefixtures("gigatoken")
@pytest.mark.slow
@pytest.mark.parametrize("pattern", [*PATTERNS, "llama3"])
def test_no_character_is_missed(pattern: str, trained: dict[Style, Tokenizer]) -> None:
    """What is tried at run time finds all that trying every character would find."""
    spec = json.loads(_split_by(trained["gpt2"], pattern).to_str())
    probe = parity.border_probe(spec)
    slow, fast = Tokenizer.from_str(json.dumps(probe)), module._load_gigatoken(parity.for_gigatoken(probe))
    everything = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    unlike = set(unlike_characters(slow, fast, everything, "a{0}1{0}!{0}A{0}'{0} {0}\n{0}a"))
    assert unlike <= set(widened(unlike_characters(slow, fast, parity.tried_characters(), parity.places(spec))))


def _split_by(tokenizer: Tokenizer, pattern: Any) -> Tokenizer:
    """A copy that splits words by this pattern."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.pre_tokenizer = pre_tokenizer("cl100k" if pattern == "llama3" else pattern)
    if pattern != "llama3":
        return copy
    spec = json.loads(copy.to_str())
    spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = LLAMA3
    return Tokenizer.from_str(json.dumps(spec))


def test_text_with_a_character_that_is_classed_differently_is_left_to_tokenizers(
    trained: dict[Style, Tokenizer], fast: dict[Style, Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = pickle.loads(pickle.dumps(fast["gpt2"]))
    encoder._fast._unlike[ord("\u4e2d")] = True
    seen: list[str] = []
    encode = encoder._fast._encode
    monkeypatch.setattr(encoder._fast, "_encode", lambda text: seen.append(text) or encode(text))
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 4)
    texts = ["plain", "with \u4e2d in it", "\u00e9", "long enough for \u4e2d"]
    assert as_lists(encoder.encode_batch(texts)) == plain_ids(trained["gpt2"], texts)
    assert seen == ["plain", "\u00e9"]


def test_an_engine_that_forgets_does_not_change_ids(
    trained: dict[Style, Tokenizer],
    fast: dict[Style, Encoder],
    library_texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TOKENS_OF_ONE_ENGINE", 1000)
    encoder = pickle.loads(pickle.dumps(fast["gpt2"]))
    loaded: list[str] = []
    load = module._load_gigatoken
    monkeypatch.setattr(module, "_load_gigatoken", lambda content: loaded.append(content) or load(content))
    batches = [encoder.encode_batch(library_texts[start : start + 5]) for start in range(0, 20, 5)]
    assert as_lists([row for batch in batches for row in batch]) == plain_ids(trained["gpt2"], library_texts[:20])
    assert len(loaded) == 3


@pytest.mark.parametrize("length", [20, 50_000])
def test_an_engine_that_errs_is_caught(
    length: int, fast: dict[Style, Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = pickle.loads(pickle.dumps(fast["gpt2"]))
    encode: Callable[[str], NDArray[np.uint32]] = encoder._fast._encode
    monkeypatch.setattr(encoder._fast, "_encode", lambda text: encode(text.replace("wrong", "wrnog")))
    assert len(encoder.encode_batch(["right " * length])) == 1
    with pytest.raises(UserError, match=r"gigatoken .* and tokenizers differ on") as caught:
        encoder.encode_batch(["wrong " * length])
    assert "tokenizers" in caught.value.fix


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_processes_give_the_same_ids(
    method: str, trained: dict[Style, Tokenizer], fast: dict[Style, Encoder], library_texts: list[str]
) -> None:
    texts = library_texts[:12]
    encoders = [fast["gpt2"], Encoder(trained["gpt2"], "tokenizers")]
    with multiprocessing.get_context(method).Pool(2) as pool:
        for encoder in encoders:
            batches = pool.map(encoder.encode_batch, [texts[:6], texts[6:]])
            assert as_lists([row for batch in batches for row in batch]) == plain_ids(trained["gpt2"], texts)


def test_on_another_machine_the_engine_is_tried_again(
    trained: dict[Style, Tokenizer], fast: dict[Style, Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(fast["llama"])
    assert Encoder(trained["llama"], fast["llama"].choice).choice is fast["llama"].choice
    monkeypatch.setattr(module, "_against_gigatoken", lambda _: ("its processor cannot", ""))
    assert pickle.loads(sent).choice.engine == "gigatoken"
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    received = pickle.loads(sent)
    assert (received.choice.engine, received.choice.reason) == ("tokenizers", "its processor cannot")
    assert as_lists(received.encode_batch(["some text"])) == as_lists(fast["llama"].encode_batch(["some text"]))


def test_the_engine_can_be_named(trained: dict[Style, Tokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_engine(trained["gpt2"], "tokenizers").reason == "asked for"
    monkeypatch.setattr(module, "_against_gigatoken", lambda _: ("it is not there", ""))
    assert choose_engine(trained["gpt2"], "auto").engine == "tokenizers"
    with pytest.raises(UserError, match="gigatoken cannot be used: it is not there") as caught:
        Encoder(trained["gpt2"], "gigatoken")
    assert "gpt-run[fast]" in caught.value.fix


@pytest.mark.usefixtures("gigatoken")
def test_what_gigatoken_would_read_differently_is_left_to_tokenizers(
    trained: dict[Style, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer.from_str(trained["gpt2"].to_str())
    tokenizer.add_tokens(["ordinary"])
    assert Encoder(tokenizer).choice.reason == "it has added tokens that are not special"
    monkeypatch.setattr(module, "GIGATOKEN_VERSION", "9.9.9")
    assert "is installed, 9.9.9 is compared" in Encoder(trained["gpt2"]).choice.reason


def test_large_vocabularies_get_wide_ids() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    tokenizer = tokenizer_of_ranks(ranks, "gpt2", {"<|endoftext|>": 70_000}, "wide")
    assert Encoder(tokenizer, "tokenizers").encode_batch(["a"])[0].dtype == np.dtype("uint32")
