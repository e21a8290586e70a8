"""Tokens that are ready, as nanoGPT, llm.c and build-nanogpt write them, on their way into shards.

No source of text: nothing is cleaned or tokenised. `trainer.data.prepare.tokens` copies the rows of `token_rows`; a run
that names such files in `data.train` reads them where they are (`trainer.data.dataset`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from trainer.data.config import CacheConfig
from trainer.data.dataset import VALIDATION_NAME, LazyCache, raw_opener
from trainer.data.formats import SUFFIXES, inspect_file
from trainer.data.meta_pkl import META_FILE, read_meta
from trainer.data.remote import locate
from trainer.data.shards import Tokens
from trainer.data.sources.base import digest
from trainer.data.sources.files import File, list_files
from trainer.errors import UserError
from trainer.settings import Settings
from trainer.storage_errors import clean_url

Splits = dict[str, list[File]]

# Tokens that are held at once; also the longest row where no end-of-text token comes.
ROW_TOKENS = 1 << 20


class TokenFiles(Settings):
    """Token files: .bin (nanoGPT, llm.c), .npy or .npz; those with `val` in their name are for validation."""

    type: Literal["tokens"]
    path: str = Field(min_length=1)
    """A file, a folder (with all folders below it) or a glob pattern; local or any fsspec URL."""
    cache: CacheConfig = CacheConfig()
    """Where remote files and compressed archives are put while they are read."""

    def splits(self) -> Splits:
        """The token files of each split, by name. Raises UserError where there are none, or of several formats."""
        files = [file for file in list_files(self.path) if file.url.endswith(SUFFIXES)]
        kinds = sorted({file.url.rsplit(".", 1)[-1] for file in files})
        if len(kinds) != 1:
            raise UserError(
                f"{clean_url(self.path)} holds " + (f"files of {', '.join(kinds)}" if kinds else "no token files"),
                expected=f"files of one of the kinds {', '.join(SUFFIXES)}",
                fix="correct `path` of this tokens source; it may be a pattern such as data/*.npy",
            )
        splits: Splits = {"train": [], "validation": []}
        for file in files:
            splits["validation" if VALIDATION_NAME.search(_name(file)) else "train"].append(file)
        return {name: members for name, members in splits.items() if members}

    def fingerprint(self) -> str:
        """Tells whether the files changed, by their names, sizes and versions."""
        return digest({split: [tuple(file) for file in files] for split, files in self.splits().items()})

    def record(self) -> dict[str, Any]:
        """What dataset.json says of this source."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"cache"}) | {"path": clean_url(self.path)}


def check_vocabulary(splits: Splits, vocab_size: int) -> None:
    """Raise UserError where a meta.pkl beside the files speaks of more ids than the tokenizer has."""
    first = next(iter(splits.values()))[0]
    location = locate(first.url).sibling(META_FILE)
    found = read_meta(location)
    if found is not None and found.vocab_size > vocab_size:
        raise UserError(
            f"{clean_url(location.url)} says that the files have {found.vocab_size} ids",
            expected=f"at most {vocab_size}, which the tokenizer has",
            fix="name the tokenizer that made these files",
        )


def token_rows(files: Sequence[File], cache: CacheConfig, *, eos_id: int, vocab_size: int) -> Iterator[Tokens]:
    """The tokens of files in rows that end with `eos_id`; laid end to end they are the files' tokens.

    Where none comes for long a row ends after ROW_TOKENS. Raises UserError for an id that the vocabulary does not have.
    """
    opened = LazyCache(cache)
    for file in files:
        pending: list[Tokens] = []
        for start, piece in _pieces(file, opened):
            if piece.max() >= vocab_size or piece.min() < 0:
                raise _foreign_id(file, start, piece, vocab_size)
            *rows, rest = np.split(piece, np.flatnonzero(piece == eos_id) + 1)
            for row in rows:
                yield np.concatenate([*pending, row])
                pending.clear()
            if len(rest):
                pending.append(rest)
            if sum(map(len, pending)) >= ROW_TOKENS:
                yield np.concatenate(pending)
                pending.clear()
        if pending:
            yield np.concatenate(pending)


def _pieces(file: File, cache: LazyCache) -> Iterator[tuple[int, Tokens]]:
    """The tokens of a file with the number of the first; none of them is empty."""
    location = locate(file.url)
    raw = inspect_file(location)
    dtype = np.result_type(*(member.dtype for member in raw.members)) if raw.members else np.dtype(np.uint16)
    shard = raw_opener(location, raw, cache)()
    for start in range(0, shard.num_tokens, ROW_TOKENS):
        piece = np.empty(min(ROW_TOKENS, shard.num_tokens - start), dtype=dtype)
        shard.copy_to(start, piece)
        yield start, piece


def _foreign_id(file: File, start: int, piece: Tokens, vocab_size: int) -> UserError:
    number = int(np.flatnonzero((piece >= vocab_size) | (piece < 0))[0])
    return UserError(
        f"{clean_url(file.url)}: token {start + number} has id {int(piece[number])}",
        expected=f"ids from 0 to {vocab_size - 1}, which the tokenizer has",
        fix="name the tokenizer that made the file, or write the file again",
    )


def _name(file: File) -> str:
    return file.url.rsplit("/", 1)[-1]
