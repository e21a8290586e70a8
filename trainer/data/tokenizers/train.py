"""Training of BPE tokenizers in three styles; deterministic, on all cores (threads of `tokenizers`).

Called by `trainer.data.tokenizers.pipeline` and by preparation, with a sample of the text. RAYON_NUM_THREADS limits the
threads; the result does not depend on them: `tokenizers` breaks ties between pairs by their ids, and what it leaves to
the order of a hash table, which rare characters are left out of the alphabet, is decided here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from trainer.data.tokenizer import END_OF_TEXT, train_bpe
from trainer.data.tokenizers.config import BpeTokenizer

# How SentencePiece, and with it LLaMA, writes a space.
SPACE = "\u2581"
LLAMA_SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
# Share of the sample's characters that get a token of their own; the others are written as bytes.
CHARACTER_COVERAGE = 0.9995
# Pieces across whose borders llama never joins: words, digits one by one, signs, runs of spaces but the last, the rest.
LLAMA_PIECES = (
    rf"{SPACE}+(?={SPACE})|{SPACE}?\p{{L}}[\p{{L}}\p{{M}}]*|\p{{N}}|{SPACE}?[^\s{SPACE}\p{{L}}\p{{N}}]+|{SPACE}|\s+"
)


def train_tokenizer(settings: BpeTokenizer, texts: Iterable[str]) -> Tokenizer:
    """A tokenizer of the size and style asked for, smaller where `texts` hold too little to learn.

    `texts` is iterated more than once: a list or a `Sample`, no generator.
    """
    match settings.style:
        case "byte-level":
            return train_bpe(texts, settings.size)
        case "gpt2":
            return _train_gpt2(texts, settings.size)
        case "llama":
            return _train_llama(texts, settings.size)


def named_tokens(settings: BpeTokenizer) -> dict[str, str]:
    """The special tokens of a style by their role in a Hugging Face configuration."""
    return LLAMA_SPECIAL if settings.style == "llama" else {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}


def _train_gpt2(texts: Iterable[str], size: int) -> Tokenizer:
    """GPT-2's layout of ids: 256 bytes, then what was learned, then the end of text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return tokenizer


def _train_llama(texts: Iterable[str], size: int) -> Tokenizer:
    """LLaMA's layout of ids: <unk>, <s>, </s>, 256 bytes, then characters and what was learned.

    Words are split for training only: as nothing is learned across their borders, encoding needs no splitting. A
    space is put before the text, and taken away again by decoding.
    """
    alphabet = _frequent_characters(texts, at_most=(size - 256) // 2)
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(LLAMA_PIECES), behavior="isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=size - 256,
        special_tokens=list(LLAMA_SPECIAL.values()),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(_known_pieces(texts, alphabet), trainer)
    learned = json.loads(learner.to_str())["model"]
    tokens = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    special = len(LLAMA_SPECIAL)
    tokens[special:special] = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[(left, right) for left, right in learned["merges"]],
            unk_token=LLAMA_SPECIAL["unk_token"],
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in LLAMA_SPECIAL.values()]
    )
    return tokenizer


def _frequent_characters(texts: Iterable[str], at_most: int) -> list[str]:
    """The most frequent characters that together make up CHARACTER_COVERAGE of the text; ties go by code point."""
    counts = np.zeros(0x110000, dtype=np.int64)
    for text in texts:
        codes, times = np.unique(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32), return_counts=True)
        counts[codes] += times
    # Present whatever the text: it is put before every text.
    counts[ord(SPACE)] += counts[ord(" ")] + 1
    counts[ord(" ")] = 0
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    covered = np.cumsum(counts[order]) / counts.sum()
    needed = min(int(np.searchsorted(covered, CHARACTER_COVERAGE)) + 1, at_most, len(order))
    kept = {SPACE, *(chr(code) for code in order[:needed])}
    return sorted(kept)


def _known_pieces(texts: Iterable[str], alphabet: list[str]) -> Iterator[list[str]]:
    """Each text as the model sees it, cut where it has rare characters: what stands around them are no neighbours."""
    rare = re.compile(f"[^{re.escape(''.join(alphabet))}]+")
    for text in texts:
        yield [piece for piece in rare.split(SPACE + text.replace(" ", SPACE)) if piece]
