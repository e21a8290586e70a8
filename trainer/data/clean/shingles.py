"""Shingles: 64-bit hashes of every n consecutive words of a text, many texts at a time.

Near-duplicate signatures and decontamination compare texts by them. Words are runs of letters and digits without regard
to case; punctuation and white space only separate them, so that copies with other quotes or line breaks stay equal. In
scripts that are written without spaces every character is a word. All of it is NumPy on UTF-8 bytes; what a text
gives depends on that text alone, never on the batch around it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trainer.data.batches import batches

Hashes = npt.NDArray[np.uint64]

# A longer text is judged by its beginning: bounds memory (about 16 bytes per character) against a document of 100 MB.
MAX_CHARACTERS = 4_000_000
# Text that is hashed at once: its arrays stay in a core's cache.
BATCH_BYTES = 1 << 16
# A longer word counts by its beginning and its length.
MAX_WORD_BYTES = 64
BLOCK_BYTES = 8

# Odd constants with well-spread bits; the multiply-xorshift steps are the finalizer of SplitMix64 (Steele et al. 2014).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

# Characters of planes 0 and 1 are looked up; what is beyond are Han characters.
_KNOWN = 0x20000
# First and last characters of Thai and Lao, Myanmar, Khmer, kana, Han.
_WITHOUT_SPACES = (
    (0xE00, 0xEFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
)
_SPACE = ord(" ")
# ASCII letters become small, other ASCII that is no digit becomes a space.
_FOLD_ASCII = bytes(ord(chr(byte).lower()) if chr(byte).isalnum() else _SPACE for byte in range(128)) + bytes(128)


def shingles(texts: Sequence[str], num_words: int) -> tuple[Hashes, npt.NDArray[np.uint64]]:
    """Hashes of the runs of `num_words` words of each text, laid end to end, and the offsets [n + 1] of the texts.

    Text i has hashes[offsets[i]:offsets[i + 1]]: with repetitions, in order; one hash where the whole text is shorter
    than a shingle, none where it has no words.
    """
    hashes, counts = [], [np.zeros(1, dtype=np.uint64)]
    for batch in batches(map(_folded, texts), BATCH_BYTES):
        batch_hashes, batch_counts = _hash_batch(batch, num_words)
        hashes.append(batch_hashes)
        counts.append(batch_counts)
    empty = np.empty(0, dtype=np.uint64)
    return np.concatenate([empty, *hashes]), np.cumsum(np.concatenate(counts), dtype=np.uint64)


def mixed(values: Hashes) -> Hashes:
    """A fixed permutation of the 64-bit numbers that spreads every bit over all others. Changes `values` in place."""
    values ^= values >> np.uint64(30)
    values *= _MIX_1
    values ^= values >> np.uint64(27)
    values *= _MIX_2
    values ^= values >> np.uint64(31)
    return values


def _folded(text: str) -> bytes:
    """The text as small letters, digits and spaces, in UTF-8; ends with a space."""
    text = text[:MAX_CHARACTERS]
    if text.isascii():
        return text.encode().translate(_FOLD_ASCII) + b" "
    table, is_single = _tables()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    known = np.minimum(codes, _KNOWN)
    folded = np.where(known < _KNOWN, table[known], codes)
    single = is_single[known]
    if single.any():
        # A space before and after each.
        places = np.arange(len(codes)) + 2 * np.cumsum(single) - single
        apart = np.full(len(codes) + 2 * int(single.sum()), _SPACE, dtype="<u4")
        apart[places] = folded
        folded = apart
    return folded.tobytes().decode("utf-32-le", "surrogatepass").encode("utf-8", "surrogatepass") + b" "


@lru_cache(maxsize=1)
def _tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """By character: what it is replaced with, and whether it is a word by itself."""
    table = np.arange(_KNOWN + 1, dtype="<u4")
    for number in range(_KNOWN):
        character = chr(number)
        if unicodedata.category(character)[0] in "PSZC":
            table[number] = _SPACE
        elif len(character.lower()) == 1:
            table[number] = ord(character.lower())
    is_single = np.zeros(_KNOWN + 1, dtype=np.bool_)
    is_single[_KNOWN] = True
    for first, last in _WITHOUT_SPACES:
        is_single[first : last + 1] = table[first : last + 1] != _SPACE
    return table, is_single


def _hash_batch(batch: list[bytes], num_words: int) -> tuple[Hashes, npt.NDArray[np.uint64]]:
    """Shingles of a batch, and their number per text."""
    words, word_counts = _word_hashes(batch)
    ends = np.cumsum(word_counts)
    starts = ends - word_counts
    counts = np.maximum(word_counts - (num_words - 1), np.minimum(word_counts, 1))
    combined = np.zeros(len(words), dtype=np.uint64)
    # Horner's scheme over the following words; near the end of a text it runs into the next one, cut off below.
    for ahead in range(num_words):
        combined *= _SPREAD
        combined[: max(len(words) - ahead, 0)] += words[ahead:]
    for text in np.flatnonzero((word_counts > 0) & (word_counts < num_words)):
        value = 0
        for word in words[starts[text] : ends[text]].tolist():
            value = (value * int(_SPREAD) + word) % (1 << 64)
        combined[starts[text]] = value
    # Shingle j of a text begins at its word j.
    first = np.repeat(starts - (np.cumsum(counts) - counts), counts)
    return mixed(combined[first + np.arange(len(first))]), counts.astype(np.uint64)


def _word_hashes(batch: list[bytes]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Hashes of the words of a batch, and their number per text."""
    data = b"".join([b" ", *batch, b" " * MAX_WORD_BYTES])
    is_word = np.frombuffer(data, dtype=np.uint8) != _SPACE
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    # Eight bytes from any place on, as one number.
    blocks = np.ndarray((len(data) - BLOCK_BYTES + 1,), dtype="<u8", buffer=data, strides=(1,))
    kept = np.minimum(lengths, BLOCK_BYTES)
    hashes = (blocks[starts] & _MASKS[kept]) ^ (lengths.astype(np.uint64) << np.uint64(56))
    mixed(hashes)
    for done in range(BLOCK_BYTES, MAX_WORD_BYTES, BLOCK_BYTES):
        longer = np.flatnonzero(lengths > done)
        if not len(longer):
            break
        kept = np.minimum(lengths[longer] - done, BLOCK_BYTES)
        hashes[longer] = mixed(hashes[longer] * _SPREAD + (blocks[starts[longer] + done] & _MASKS[kept]))
    text_ends = np.cumsum([len(text) for text in batch]) + 1
    return hashes, np.diff(np.searchsorted(starts, text_ends), prepend=0)


# _MASKS[n] keeps the first n bytes of a little-endian block.
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(BLOCK_BYTES + 1)], dtype=np.uint64)
