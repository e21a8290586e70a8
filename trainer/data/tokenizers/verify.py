"""`gpt-run tokenizer verify`: does a tokenizer give back what it was given, and is it the one that everybody loads?

Checks it on text: round trip, size, special tokens, ids, and that transformers, where it is installed, loads the folder
as a fast tokenizer with equal ids. Measures fertility: tokens per word and bytes per token.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from trainer.data import corpus
from trainer.data.remote import locate
from trainer.data.shards import TOKENIZER_FILE
from trainer.data.tokenizer import (
    CONFIG_FILE,
    end_of_text_id,
    load_tokenizer,
    read_config,
    tokenizer_fingerprint,
    vocabulary_size,
)
from trainer.data.tokenizers.train import SPACE
from trainer.errors import UserError
from trainer.storage_errors import one_line

# What tokenizers lose: white space at the ends and in runs, control characters, accents that stand alone, signs beyond
# the first plane, text that looks like a special token.
AWKWARD = (
    "",
    " ",
    " leading and trailing ",
    "two  spaces,\ttabs\t\tand\n\n\nlines\r\n",
    "\x00 \x7f \u200b \ufeff \ufffd",
    "na\u00efve cafe\u0301 \u4f60\u597d \u0645\u0631\u062d\u0628\u0627 \ud55c\uae00 \u0e44\u0e17\u0e22",
    "\U0001f600 \U0001f469\u200d\U0001f680 \U0001d11e",
    "1234567890 3.14e-10 0x7fff",
    "I'm, you're, WE'LL don't",
    "<|endoftext|> </s> <unk> <0x0A>",
)
SAMPLE_BYTES = 2_000_000


@dataclass
class Report:
    """What was found; a tokenizer without `problems` is sound."""

    path: str
    fingerprint: str
    vocab_size: int
    """One more than the largest id."""
    eos_id: int | None
    special_tokens: dict[str, int]
    documents: int
    bytes: int
    tokens: int
    tokens_per_word: float
    """A word is what white space separates."""
    bytes_per_token: float
    unused_ids: int
    """Ids that the text does not use."""
    missing_ids: int
    """Ids below the largest that have no token."""
    hugging_face: str
    """`equal`, or why it was not compared."""
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """For a terminal."""
        special = ", ".join(f"{name} {number}" for name, number in list(self.special_tokens.items())[:8])
        if len(self.special_tokens) > 8:
            special += f" and {len(self.special_tokens) - 8} more"
        lines = [
            f"{self.path}: {self.vocab_size:,} ids, fingerprint {self.fingerprint[:12]}",
            f"special tokens: {special or 'none'}; documents end with {self.eos_id}",
            f"text: {self.documents:,} documents, {self.bytes:,} bytes, {self.tokens:,} tokens",
            f"fertility: {self.tokens_per_word:.3f} tokens per word, {self.bytes_per_token:.3f} bytes per token",
            f"ids: {self.unused_ids:,} unused by this text, {self.missing_ids:,} without a token",
            f"Hugging Face fast tokenizer: {self.hugging_face}",
        ]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in self.problems)])


def verify_tokenizer(path: str, texts: Sequence[str], *, vocab_size: int | None = None) -> Report:
    """Check the tokenizer in a folder or tokenizer.json (path or URL) on `texts` and on a few awkward ones.

    `vocab_size` is what it should be. Raises UserError only where there is no tokenizer.
    """
    location = locate(path)
    info = location.info()
    file = location.join(TOKENIZER_FILE) if info is not None and info["type"] == "directory" else location
    tokenizer = load_tokenizer(file.url)
    tokenizer.encode_special_tokens = True
    everything = [*AWKWARD, *texts]
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(everything, add_special_tokens=False)]
    problems, notes = _round_trip(tokenizer, everything, ids)
    problems += _sizes(tokenizer, vocab_size)
    eos_id, special = _special_tokens(tokenizer, problems)
    hugging_face = _compare_with_transformers(tokenizer, file.url, everything, problems)
    tokens = ids[len(AWKWARD) :]
    num_tokens, num_bytes = sum(map(len, tokens)), sum(len(text.encode()) for text in texts)
    words = sum(len(text.split()) for text in texts)
    used = np.unique(np.concatenate([np.array(row, dtype=np.int64) for row in tokens])) if tokens else ()
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return Report(
        path=path,
        fingerprint=tokenizer_fingerprint(load_tokenizer(file.url)),
        vocab_size=vocabulary_size(tokenizer),
        eos_id=eos_id,
        special_tokens=special,
        documents=len(texts),
        bytes=num_bytes,
        tokens=num_tokens,
        tokens_per_word=num_tokens / max(words, 1),
        bytes_per_token=num_bytes / max(num_tokens, 1),
        unused_ids=len(set(vocabulary.values())) - len(used),
        missing_ids=vocabulary_size(tokenizer) - len(set(vocabulary.values())),
        hugging_face=hugging_face,
        notes=notes,
        problems=problems,
    )


def read_texts(paths: Iterable[str], max_bytes: int = SAMPLE_BYTES) -> list[str]:
    """The beginning of UTF-8 files (paths or URLs); without any, text that this Python installation carries."""
    texts = [_read_text(path, max_bytes) for path in paths]
    return texts or list(_library_texts(max_bytes))


def _library_texts(max_bytes: int) -> Iterator[str]:
    taken = 0
    for text in itertools.chain((text for _, text in corpus.help_topics()), map(_library_file, corpus.library_files())):
        yield text
        taken += len(text.encode())
        if taken >= max_bytes:
            return


def _library_file(entry: tuple[str, Path]) -> str:
    return entry[1].read_text(encoding="utf-8", errors="replace")


def _read_text(path: str, max_bytes: int) -> str:
    location = locate(path)
    info = location.info()
    if info is None or info["type"] == "directory":
        raise UserError(f"no file {path}", expected="a file of UTF-8 text", fix="check the path")
    content = location.read(0, min(max_bytes, int(info["size"])))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        # A character may be cut at the end.
        if len(content) == max_bytes and error.start >= len(content) - 3:
            return content[: error.start].decode()
        raise UserError(
            f"{path}, byte {error.start}: not UTF-8", expected="a file of UTF-8 text", fix="convert it, or take another"
        ) from error


def _round_trip(tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[list[int]]) -> tuple[list[str], list[str]]:
    problems: list[str] = []
    notes: list[str] = []
    # A tokenizer that writes spaces as this sign cannot tell it from a space, which is no fault of its training.
    steps = json.loads(tokenizer.to_str())
    spaces = any(SPACE in json.dumps(steps[key], ensure_ascii=False) for key in ("normalizer", "pre_tokenizer"))
    lost = spaced = 0
    for text, decoded in zip(texts, tokenizer.decode_batch(list(ids), skip_special_tokens=False), strict=True):
        if decoded == text:
            continue
        if spaces and decoded == text.replace(SPACE, " "):
            spaced += 1
            continue
        lost += 1
        if lost == 1:
            problems.append(_first_loss(text, decoded))
    if lost > 1:
        problems.append(f"{lost} of {len(texts)} documents do not come back as they were")
    if spaced:
        notes.append(f"{spaced} documents have the sign {SPACE} (U+2581), which comes back as a space")
    return problems, notes


def _first_loss(text: str, decoded: str) -> str:
    same = next((i for i, pair in enumerate(zip(text, decoded, strict=False)) if pair[0] != pair[1]), len(decoded))
    return (
        f"text does not come back as it was: {text[max(0, same - 10) : same + 20]!a} became "
        f"{decoded[max(0, same - 10) : same + 20]!a}"
    )


def _sizes(tokenizer: Tokenizer, expected: int | None) -> list[str]:
    problems = []
    if expected is not None and vocabulary_size(tokenizer) != expected:
        problems.append(f"the vocabulary has {vocabulary_size(tokenizer)} ids, {expected} were expected")
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    owners: dict[int, str] = {}
    for token, number in vocabulary.items():
        if number in owners:
            problems.append(f"id {number} stands for both {owners[number]!r} and {token!r}")
        owners[number] = token
    return problems


def _special_tokens(tokenizer: Tokenizer, problems: list[str]) -> tuple[int | None, dict[str, int]]:
    """The id that ends documents, and all special tokens by id; appends what is wrong with them."""
    special = {
        token.content: number for number, token in sorted(tokenizer.get_added_tokens_decoder().items()) if token.special
    }
    try:
        eos_id = end_of_text_id(tokenizer)
    except UserError as error:
        problems.append(error.found)
        return None, special
    if eos_id not in special.values():
        problems.append(f"{tokenizer.id_to_token(eos_id)!r}, which ends documents, is not marked as special")
    for token, number in special.items():
        as_text = tokenizer.encode(token, add_special_tokens=False).ids
        if number in as_text:
            problems.append(f"text that spells {token!r} becomes the special token {number}")
    tokenizer.encode_special_tokens = False
    for token, number in special.items():
        if tokenizer.encode(token, add_special_tokens=False).ids != [number]:
            problems.append(f"the special token {token!r} is not encoded as its id {number}")
    tokenizer.encode_special_tokens = True
    return eos_id, special


def _compare_with_transformers(tokenizer: Tokenizer, url: str, texts: Sequence[str], problems: list[str]) -> str:
    try:
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        return "not compared: transformers is not installed (pip install 'gpt-run[peers]')"
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / TOKENIZER_FILE).write_bytes(locate(url).read())
            config = read_config(locate(url).sibling(CONFIG_FILE)) if url.endswith(TOKENIZER_FILE) else {}
            if config:
                (folder / CONFIG_FILE).write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}))
            fast = PreTrainedTokenizerFast.from_pretrained(folder)
        theirs = fast(list(texts), add_special_tokens=False)["input_ids"]
    except Exception as error:  # whatever a key of the configuration makes it stumble over
        words = error.found if isinstance(error, UserError) else f"transformers does not take it: {one_line(error)}"
        problems.append(words)
        return "not loaded"
    tokenizer.encode_special_tokens = False
    ours = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
    tokenizer.encode_special_tokens = True
    differing = [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b]
    if differing:
        problems.append(f"transformers gives other ids for {len(differing)} documents, first {differing[0][:60]!r}")
        return "differs"
    if len(fast) != len(tokenizer.get_vocab(with_added_tokens=True)):
        problems.append(f"transformers counts {len(fast)} tokens, not {len(tokenizer.get_vocab())}")
        return "differs"
    return "equal"
