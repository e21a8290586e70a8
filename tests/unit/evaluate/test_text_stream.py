"""Pieces join to the whole text, characters come whole, and stop strings are cut wherever tokens begin and end."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from trainer.data.tokenizer import train_bpe
from trainer.evaluate.text_stream import TextStream

TEXT = "Grüße an Zoë: 日本語のテキスト, 👩‍👩‍👧 und mehr davon, mehr davon. "
BYTES = train_bpe([TEXT] * 3, 290)
FIRST_BYTE = 1


def metaspace() -> Tokenizer:
    """As LLaMA's: decoding drops the space before the first word of what it is given."""
    vocabulary = {"<unk>": 0, "▁def": 1, "▁main": 2, "(": 3}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def pieces(ids: Sequence[int], prompt: Sequence[int] = (), stop: Sequence[str] = ()) -> list[str]:
    stream = TextStream(BYTES, prompt, stop)
    found = []
    for token in ids:
        found.append(stream.add(token))
        if stream.stopped:
            break
    return [*found, stream.finish()]


def test_characters_come_whole() -> None:
    ids = BYTES.encode(TEXT).ids
    assert len(ids) > len(TEXT) / 2
    found = pieces(ids)
    assert "".join(found) == TEXT
    assert found[-1] == ""
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in found)
    assert sum(map(bool, found)) > len(ids) / 4


@given(st.lists(st.integers(FIRST_BYTE, 289), max_size=40), st.integers(0, 10))
def test_any_tokens_join_to_what_they_decode_to(ids: list[int], prompt: int) -> None:
    """Random tokens are mostly no valid UTF-8."""
    head = BYTES.encode("prompt ").ids[:prompt]
    assert "".join(pieces(ids, head)) == BYTES.decode(head + ids)[len(BYTES.decode(head)) :]


@given(
    st.lists(st.sampled_from(["mehr", " davon", "meh", "r d", "a", "v", "n m"]), max_size=8).map("".join),
    st.lists(st.text("mehr davon", min_size=1, max_size=5), max_size=3),
)
def test_stop_strings_cut_at_the_first_that_ends(text: str, stops: list[str]) -> None:
    ids = BYTES.encode(text).ids
    # Character by character: the text ends with the first character that completes any of them.
    ends = [end for end in range(1, len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    expected = text if not ends else text[: min(ends[0] - len(s) for s in stops if text[: ends[0]].endswith(s))]
    assert "".join(pieces(ids, stop=stops)) == expected


def test_a_stop_string_lies_across_tokens_and_is_never_shown() -> None:
    ids = BYTES.encode("und mehr davon").ids
    assert len(BYTES.encode("r d").ids) > 1
    found = pieces(ids, stop=["r d"])
    assert "".join(found) == "und meh"
    # Only the beginning of a stop string is held back, and given when it turns out to be none.
    assert "".join(pieces(ids, stop=["r dx", "von!"])) == "und mehr davon"


def test_a_space_between_prompt_and_text_is_kept() -> None:
    stream = TextStream(metaspace(), [1])
    assert stream.add(2) + stream.add(3) + stream.finish() == " main("


def test_an_unfinished_character_at_the_end_is_marked() -> None:
    ids = BYTES.encode("é").ids
    assert len(ids) == 2
    assert pieces(ids[:1]) == ["", "\N{REPLACEMENT CHARACTER}"]
