"""tiktoken rank files: the same ids in a `tokenizers` tokenizer.

Called by `trainer.data.tokenizers.config`. A rank file lists tokens and their ids; what tiktoken joins next is the pair
of neighbours whose concatenation has the lowest rank. `tokenizers` wants the pairs themselves. Each token's pair is
found by joining its own bytes with lower ranks only: two parts must be left. Where that holds for every token, both
give the same ids for every word, whatever stands around a pair; where it does not, the file is refused. Only the way of
splitting text into words is not in the file: `PATTERNS` has it by name.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from pathlib import PurePosixPath
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from trainer.data.remote import locate
from trainer.data.tokenizer import END_OF_TEXT
from trainer.errors import UserError

Pattern = Literal["gpt2", "cl100k", "o200k"]

# As in tiktoken's own definitions, for the regular expressions of `tokenizers`: there `$` ends a line, not the text,
# and `{1,3}+` repeats, so \z and {1,3} take their places. gpt2 is built into `tokenizers`.
PATTERNS: dict[Pattern, str | None] = {
    "gpt2": None,
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]"
    r"|\s+(?!\S)|\s",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
# Files by their name, as tiktoken publishes them.
KNOWN_FILES: dict[str, tuple[Pattern, dict[str, int]]] = {
    "gpt2": ("gpt2", {END_OF_TEXT: 50256}),
    "r50k_base": ("gpt2", {END_OF_TEXT: 50256}),
    "p50k_base": ("gpt2", {END_OF_TEXT: 50256}),
    "cl100k_base": (
        "cl100k",
        {
            END_OF_TEXT: 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": ("o200k", {END_OF_TEXT: 199999, "<|endofprompt|>": 200018}),
}

Ranks = dict[bytes, int]


def read_rank_file(path: str, pattern: Pattern | None, special_tokens: dict[str, int] | None) -> Tokenizer:
    """The tokenizer of a rank file; `pattern` and `special_tokens` may be None for a file of a known name.

    Raises UserError where the file is missing or no rank file, and where the two are needed and not given.
    """
    known = KNOWN_FILES.get(PurePosixPath(path).name.removesuffix(".tiktoken"))
    if pattern is None and known is None:
        raise UserError(
            f"{path}: a rank file does not say how text is split into words",
            expected=f"a pattern ({', '.join(PATTERNS)}), or a file named {', '.join(KNOWN_FILES)}",
            fix="name the pattern of the model that the file belongs to",
        )
    try:
        content = locate(path).read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"no rank file {path}", expected="a tiktoken rank file", fix="check the path") from error
    ranks, unused = parse_ranks(content, path)
    if special_tokens is None and known is not None:
        special_tokens = known[1]
    if special_tokens is None:
        special_tokens = {END_OF_TEXT: max([*ranks.values(), *unused]) + 1}
    return tokenizer_of_ranks(ranks, pattern or (known and known[0]) or "gpt2", special_tokens, path)


def parse_ranks(content: bytes, name: str) -> tuple[Ranks, set[int]]:
    """Tokens with their ids, and the ids of empty tokens (fillers). UserError with the line where it is malformed."""
    ranks: Ranks = {}
    fillers: set[int] = set()
    ids: set[int] = set()
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            encoded, written = line.split()
            # A lone `=` is how an empty token is written: a filler.
            token, rank = b"" if encoded == b"=" else base64.b64decode(encoded, validate=True), int(written)
        except (ValueError, binascii.Error) as error:
            raise _malformed(name, number, f"{_shown(line)} is no token with its rank") from error
        if rank < 0 or rank in ids or token in ranks:
            raise _malformed(name, number, f"rank {rank} or its token is there twice, or negative")
        ids.add(rank)
        if token:
            ranks[token] = rank
        else:
            fillers.add(rank)
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise UserError(
            f"{name} has no token for the byte 0x{missing[0]:02x} and {len(missing) - 1} others",
            expected="a tiktoken rank file: 256 single bytes among its tokens",
            fix="download the file again",
        )
    return ranks, fillers


def tokenizer_of_ranks(ranks: Ranks, pattern: Pattern, special_tokens: dict[str, int], name: str) -> Tokenizer:
    """A byte-level BPE tokenizer with the ids of `ranks` and `special_tokens`. UserError where no such can exist."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = join(token, ranks, below=rank)
        if len(parts) != 2:
            raise UserError(
                f"{name}: token {rank}, {_shown(token)}, does not come from two tokens of lower rank",
                expected="ranks in the order in which BPE learned its tokens",
                fix="use the tokenizer.json of that model instead",
            )
        merges.append((_spelled(parts[0]), _spelled(parts[1])))
    vocabulary = {_spelled(token): rank for token, rank in ranks.items()}
    taken = {rank: token for token, rank in vocabulary.items()}
    for special, number in special_tokens.items():
        if not special or special in vocabulary or number < 0 or number in taken:
            found = f"id {number} is that of {taken[number]}" if number in taken else "it is there already, or empty"
            raise UserError(
                f"{name}: special token {special!r} cannot have id {number}: {found}",
                expected="a text and an id of its own for every special token",
                fix=f"give an id from {max(taken) + 1} on",
            )
        vocabulary[special], taken[number] = number, special
    # `tokenizers` numbers without holes what it saves; a name for each keeps the ids where they are.
    vocabulary |= {f"<|unused{hole}|>": hole for hole in range(max(taken)) if hole not in taken}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizer(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(special, special=True, normalized=False) for special in special_tokens])
    return tokenizer


def pre_tokenizer(pattern: Pattern) -> Any:
    """How a tokenizer of this pattern splits text into words, with the bytes of a word spelled as characters."""
    regex = PATTERNS[pattern]
    if regex is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def join(token: bytes, ranks: Ranks, *, below: int) -> list[bytes]:
    """BPE on the bytes of `token` with the tokens whose rank is lower than `below`: what is left when nothing joins."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 1:
        pairs = [ranks.get(left + right, below) for left, right in itertools.pairwise(parts)]
        lowest = min(pairs)
        if lowest >= below:
            break
        first = pairs.index(lowest)
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
    return parts


def _spelled(token: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in token)


def _byte_characters() -> list[str]:
    """The characters that stand for bytes in byte-level BPE: printable Latin-1 for itself, U+0100 on for the others."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


BYTE_CHARACTERS = _byte_characters()


def _malformed(name: str, line: int, found: str) -> UserError:
    return UserError(
        f"{name}, line {line}: {found}",
        expected="a tiktoken rank file: a token in base64 and its rank on every line, each once",
        fix="download the file again",
    )


def _shown(text: bytes) -> str:
    return repr(text[:40])[1:]
