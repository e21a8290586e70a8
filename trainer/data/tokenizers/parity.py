"""Whether gigatoken gives the ids of `tokenizers` for one tokenizer: by its form, and by trying it on this machine.

Called by `trainer.data.tokenizers.encoder`; docs/decisions/encoding-engine.md tells why this is enough. `unsupported`
names what keeps a tokenizer from being one of the few forms that the tests compare. `compare` then tries what decides
the ids of any text: into which class every character falls where words are split, and how the vocabulary's own tokens
and runs of them are joined. Characters that the two put into different classes (each comes with its own version of
Unicode) are told, so that texts that hold one can be left to `tokenizers`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tokenizers import Tokenizer

from trainer.data.tokenizers.ranks import BYTE_CHARACTERS, PATTERNS
from trainer.data.tokenizers.train import SPACE

Encode = Callable[[str], ArrayLike]

# How Llama 3 and OLMo 2 split words; cl100k but for white space at the end of a text.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# Regular expressions that are compared, and how gigatoken, which knows some by their spelling, is told of each.
SPLITS = {regex: regex for regex in (PATTERNS["o200k"], LLAMA3)} | {
    PATTERNS[
        "cl100k"
    ]: r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
}

# A character between a letter, a digit and a sign; and a capital, where the pattern tells capitals from small letters.
PLACES = "a{0}1{0}!{0}"
PLACES_WITH_CAPITALS = "a{0}1{0}!{0}A{0}a"
# What patterns tell apart, at more length; of these, random texts.
CLASSES = (
    *(
        "a",
        "A",
        "\u00e9",
        "\u4e2d",
        "\u01c5",
        "\u02b0",
        "\u0301",
        "1",
        "\u00b2",
        "\u0663",
        "!",
        "/",
        "\U0001f600",
        "\u2019",
    ),
    *(" ", "  ", "\n", "\r\n", "\r", "\t", "\u00a0", "\u3000", "\u0085", "\u200b"),
    *("'", "'s", "'S", "'ll", "'Re", "'\u017f", "don't"),
)
# Long blocks of one kind of characters, one in so many of which is tried: ideographs, Tangut and Hangul, without the
# ends that Unicode still fills, private use, and the planes behind the third, where no script is.
UNIFORM = (
    *(
        range(0x3400, 0x4DB0),
        range(0x4E00, 0x9FE0),
        range(0xAC00, 0xD7A0),
        range(0xE000, 0xF900),
        range(0x17000, 0x187F0),
    ),
    *(range(0x20000, 0x2A6D0), range(0x2A700, 0x2B730), range(0x2B820, 0x2CEA0), range(0x2CEB0, 0x2EBE0)),
    *(range(0x30000, 0x31340), range(0x31350, 0x323A0), range(0x33480, 0x110000)),
)
STRIDE = 61
NUM_CHUNKS = 64
NUM_RUNS = 2000


@dataclass(frozen=True)
class Comparison:
    """What trying both engines gave."""

    difference: str | None
    """A text on which they differ; None where there is none."""
    unlike: str = ""
    """Characters that they put into different classes: texts with one of them were not compared."""


def unsupported(spec: dict[str, Any]) -> str | None:
    """Why a tokenizer of this JSON is none of the compared forms; None where it is one."""
    model = spec["model"]
    if model.get("type") != "BPE":
        return f"its model is {model.get('type')}, not BPE"
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            return f"its model has {key}"
    if not all(token["special"] for token in spec["added_tokens"]):
        return "it has added tokens that are not special"
    merges = [tuple(merge) for merge in model["merges"]]
    if len(set(merges)) != len(merges):
        return "its merges name a pair twice"
    return _not_llama(spec) if model.get("byte_fallback") else _not_byte_level(spec)


def for_gigatoken(spec: dict[str, Any]) -> str:
    """The JSON as gigatoken is to read it: without added tokens, so that text that spells one is text."""
    told = json.loads(json.dumps({**spec, "added_tokens": [], "post_processor": None}))
    for step in (told["pre_tokenizer"] or {}).get("pretokenizers", []):
        if step["type"] == "Split":
            step["pattern"]["Regex"] = SPLITS.get(step["pattern"]["Regex"], step["pattern"]["Regex"])
    return json.dumps(told)


def compare(tokenizer: Tokenizer, load: Callable[[str], Encode]) -> Comparison:
    """Try both engines; `load` makes the other one's encoder from a tokenizer's JSON. Takes a few seconds of a core.

    `tokenizer` is to take text that spells a special token as text.
    """
    spec = json.loads(tokenizer.to_str())
    unlike = ""
    if not spec["model"].get("byte_fallback"):
        probe = border_probe(spec)
        slow, fast = Tokenizer.from_str(json.dumps(probe)), load(for_gigatoken(probe))
        unlike = widened(unlike_characters(slow, fast, tried_characters(), places(spec)))
        difference = first_difference(slow, fast, class_texts())
        if difference is not None:
            return Comparison(difference, unlike)
    texts = [text for text in vocabulary_texts(spec) if not any(character in unlike for character in text)]
    return Comparison(first_difference(tokenizer, load(for_gigatoken(spec)), texts), unlike)


def tried_characters() -> list[str]:
    """Every character, but for long blocks of one kind."""
    whole = [*range(0xD800), *range(0xE000, 0x110000)]
    uniform = {code for block in UNIFORM for code in block if (code - block.start) % STRIDE}
    return [chr(code) for code in whole if code not in uniform]


def places(spec: dict[str, Any]) -> str:
    """Where characters are put to see how this tokenizer classes them."""
    return PLACES_WITH_CAPITALS if r"\p{Lu}" in json.dumps(spec["pre_tokenizer"]) else PLACES


def widened(unlike: str) -> str:
    """The same characters and, where one was tried in place of its neighbours, those too."""
    wide = set(unlike)
    for block in UNIFORM:
        for code in map(ord, unlike):
            if code in block:
                wide |= {chr(near) for near in range(code - STRIDE, code + STRIDE) if near in block}
    return "".join(sorted(wide))


def unlike_characters(slow: Tokenizer, fast: Encode, characters: Sequence[str], places: str) -> str:
    """The characters around which the two split words differently, when they stand in `places`."""
    size = max(1, len(characters) // NUM_CHUNKS)
    chunks = [characters[start : start + size] for start in range(0, len(characters), size)]
    unlike: list[str] = []
    while chunks:
        texts = ["".join(places.format(character) for character in chunk) for chunk in chunks]
        ids = [encoding.ids for encoding in slow.encode_batch_fast(texts, add_special_tokens=False)]
        differing = [c for c, text, row in zip(chunks, texts, ids, strict=True) if not np.array_equal(fast(text), row)]
        unlike += [chunk[0] for chunk in differing if len(chunk) == 1]
        halves = [(chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]) for chunk in differing if len(chunk) > 1]
        chunks = [half for pair in halves for half in pair]
    return "".join(unlike)


def class_texts() -> Iterator[str]:
    """All pairs of ASCII characters, and random runs of what patterns tell apart."""
    ascii_characters = [chr(code) for code in range(128)]
    yield from (first + second for first in ascii_characters for second in ascii_characters)
    rng = random.Random(0)
    for _ in range(NUM_RUNS):
        yield "".join(rng.choices(CLASSES, k=rng.randrange(2, 30)))


def vocabulary_texts(spec: dict[str, Any]) -> Iterator[str]:
    """Every token's own text, and runs of random ones."""
    model = spec["model"]
    texts = [_text(token, byte_level=not model.get("byte_fallback")) for token in model["vocab"]]
    yield from texts
    rng = random.Random(0)
    for _ in range(NUM_RUNS):
        yield "".join(rng.choices(texts, k=rng.randrange(2, 30)))


def first_difference(slow: Tokenizer, fast: Encode, texts: Iterable[str]) -> str | None:
    """The first text that the two encode differently, shortened; None where they agree on all."""
    batch = list(texts)
    for text, encoding in zip(batch, slow.encode_batch_fast(batch, add_special_tokens=False), strict=True):
        if not np.array_equal(fast(text), encoding.ids):
            return repr(text if len(text) <= 80 else text[:80] + "...")
    return None


def border_probe(spec: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer that splits words like this one and shows where: it joins any byte with a neighbour's.

    Pairs of a neighbour and the first byte of a character come first, and pairs of the last byte and a neighbour; only
    a border between two words keeps them apart.
    """
    near = {BYTE_CHARACTERS[ord(character)] for character in "aA1! '\n"}
    merges = [(left, right) for left in BYTE_CHARACTERS for right in BYTE_CHARACTERS if left in near or right in near]
    tokens = [*BYTE_CHARACTERS, *dict.fromkeys(left + right for left, right in merges)]
    model = {
        "type": "BPE",
        "vocab": {token: number for number, token in enumerate(tokens)},
        "merges": [list(merge) for merge in merges],
    }
    return {"version": "1.0", "added_tokens": [], "pre_tokenizer": spec["pre_tokenizer"], "model": model}


def _not_byte_level(spec: dict[str, Any]) -> str | None:
    if spec["normalizer"] is not None:
        return "it normalises text"
    if not _known_splitting(spec["pre_tokenizer"]):
        return "it splits words in a way that is not compared"
    vocabulary = spec["model"]["vocab"]
    if not all(character in vocabulary for character in BYTE_CHARACTERS):
        return "its vocabulary lacks some of the 256 bytes"
    return None


def _known_splitting(pre_tokenizer: dict[str, Any] | None) -> bool:
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return True
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return regex in SPLITS
    return False


def _not_llama(spec: dict[str, Any]) -> str | None:
    match spec["normalizer"]:
        case {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": prepend},
                {"type": "Replace", "pattern": {"String": " "}, "content": content},
            ],
        } if prepend == content == SPACE:
            pass
        case _:
            return "it normalises text in another way than LLaMA"
    if spec["pre_tokenizer"] is not None:
        return "it splits words in a way that is not compared"
    if not all(f"<0x{byte:02X}>" in spec["model"]["vocab"] for byte in range(256)):
        return "its vocabulary lacks some of the 256 bytes"
    return None


def _text(token: str, *, byte_level: bool) -> str:
    """What a token stands for; a part of a character comes as its replacement."""
    if not byte_level:
        return token.replace(SPACE, " ")
    codes = [_BYTES.get(character) for character in token]
    known = bytes(code for code in codes if code is not None)
    return known.decode(errors="replace") if len(known) == len(token) else token


_BYTES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
