"""Tokens that are ready, as nanoGPT, llm.c and build-nanogpt write them: checked, and copied or used where they are.

No source of text: nothing is cleaned or tokenised. `trainer.data.prepare` copies the rows of `token_rows` into shards,
or leaves the files in place, where a run reads them by their path (`trainer.data.dataset`), after `checked` has seen
that every id belongs to the vocabulary.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from trainer.data.cache import ShardCache
from trainer.data.config import CacheConfig
from trainer.data.dataset import VALIDATION_NAME
from trainer.data.formats import SUFFIXES, inspect_file, open_raw_shard
from trainer.data.remote import Location, locate
from trainer.data.shards import MappedShard, Tokens
from trainer.data.sources.base import digest
from trainer.data.sources.files import File, list_files
from trainer.data.sources.streams import open_stored
from trainer.errors import UserError
from trainer.settings import Settings
from trainer.storage_errors import clean_url

META_FILE = "meta.pkl"
META_BYTES = 64 * 1024 * 1024
# Tokens that are held at once; also the longest row where no end-of-text token comes.
ROW_TOKENS = 1 << 20


class TokenFiles(Settings):
    """Token files: .bin (nanoGPT, llm.c), .npy or .npz; those with `val` in their name are for validation."""

    type: Literal["tokens"]
    path: str = Field(min_length=1)
    """A file, a folder (with all folders below it) or a glob pattern; local or any fsspec URL."""
    use: Literal["copy", "in-place"] = "copy"
    """Copy the tokens into shards, or check them and leave them where they are."""
    vocab_size: int | None = Field(default=None, gt=0, le=1 << 32)
    """One more than the largest id; null takes it from nanoGPT's meta.pkl beside the files."""
    eos_id: int | None = Field(default=None, ge=0)
    """Id that ends a document, at which copied tokens are cut into rows; null if the tokens have none."""
    cache: CacheConfig = CacheConfig()
    """Where remote files and compressed archives are put while they are read."""

    def splits(self) -> dict[str, list[File]]:
        """The token files of each split, by name. Raises UserError where there are none, or of several formats."""
        files = [file for file in list_files(self.path) if file.url.endswith(SUFFIXES)]
        kinds = sorted({file.url.rsplit(".", 1)[-1] for file in files})
        if len(kinds) != 1:
            raise UserError(
                f"{clean_url(self.path)} holds " + (f"files of {', '.join(kinds)}" if kinds else "no token files"),
                expected=f"files of one of the kinds {', '.join(SUFFIXES)}",
                fix="correct `path` of this tokens source; it may be a pattern such as data/*.npy",
            )
        splits: dict[str, list[File]] = {"train": [], "validation": []}
        for file in files:
            splits["validation" if VALIDATION_NAME.search(_name(file)) else "train"].append(file)
        return {name: members for name, members in splits.items() if members}

    def fingerprint(self) -> str:
        """Tells whether the files changed, by their names, sizes and versions."""
        return digest({split: [tuple(file) for file in files] for split, files in self.splits().items()})

    def record(self) -> dict[str, Any]:
        """What dataset.json says of this source."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"cache"}) | {"path": clean_url(self.path)}


class Meta(NamedTuple):
    """nanoGPT's meta.pkl."""

    vocab_size: int
    characters: dict[int, str]
    """The text of each id where the vocabulary is one of characters; empty otherwise."""


class Counted(NamedTuple):
    """What `checked` found in a split."""

    files: int
    tokens: int
    ends: int
    """End-of-text tokens."""
    largest_id: int


def load_meta(source: TokenFiles) -> Meta | None:
    """The meta.pkl beside the token files, or None. It can run no code: all but plain values is a UserError."""
    first = next(iter(source.splits().values()))[0]
    location = locate(first.url.removesuffix(_name(first)) + META_FILE)
    if location.info() is None:
        return None
    try:
        with open_stored(location.url) as file:
            raw = _PlainUnpickler(io.BytesIO(file.read(META_BYTES) or b"")).load()
        vocab_size, characters = raw["vocab_size"], raw.get("itos", {})
        if type(vocab_size) is not int or vocab_size <= 0:
            raise ValueError(f"vocab_size is {vocab_size!r}")
        if not all(type(number) is int and type(text) is str for number, text in characters.items()):
            raise ValueError("itos does not lead from numbers to text")
    except Exception as error:  # damaged pickles raise anything
        raise UserError(
            f"{clean_url(location.url)} is not nanoGPT's: {type(error).__name__}: {error}",
            expected="a pickled dict of plain values: vocab_size, and itos for characters",
            fix="write it again, or take it away and set vocab_size of this tokens source",
        ) from error
    return Meta(vocab_size, characters)


def checked(source: TokenFiles) -> dict[str, Counted]:
    """Read all tokens of each split once. Raises UserError for an id that the vocabulary does not have."""
    vocab_size = source.vocab_size
    if vocab_size is None and (meta := load_meta(source)) is not None:
        vocab_size = meta.vocab_size
    counted = {}
    for split, files in source.splits().items():
        tokens = ends = 0
        largest = -1
        for file in files:
            for start, piece in _pieces(source, file):
                largest = max(largest, int(piece.max()))
                if vocab_size is not None and (largest >= vocab_size or piece.min() < 0):
                    raise _foreign_id(file, start, piece, vocab_size)
                tokens += len(piece)
                ends += len(_behind_ends(piece, source.eos_id))
        counted[split] = Counted(len(files), tokens, ends, largest)
    return counted


def token_rows(source: TokenFiles, split: str) -> Iterator[Tokens]:
    """The tokens of a split in rows that end with an end-of-text token; laid end to end they are the files' tokens.

    Without `eos_id`, and where none comes for long, a row ends after ROW_TOKENS.
    """
    for file in source.splits().get(split, []):
        pending: list[Tokens] = []
        for _, piece in _pieces(source, file):
            *rows, rest = np.split(piece, _behind_ends(piece, source.eos_id))
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


def _behind_ends(piece: Tokens, eos_id: int | None) -> Tokens:
    """Positions behind each end-of-text token of a piece."""
    return np.flatnonzero(piece == eos_id) + 1 if eos_id is not None else np.empty(0, dtype=np.int64)


def _pieces(source: TokenFiles, file: File) -> Iterator[tuple[int, Tokens]]:
    """The tokens of a file with the number of the first; none of them is empty."""
    location = locate(file.url)
    raw = inspect_file(location)
    dtype = np.result_type(*(member.dtype for member in raw.members)) if raw.members else np.dtype(np.uint16)
    shard = _mapped(source, location)
    for start in range(0, shard.num_tokens, ROW_TOKENS):
        piece = np.empty(min(ROW_TOKENS, shard.num_tokens - start), dtype=dtype)
        shard.copy_to(start, piece)
        yield start, piece


def _mapped(source: TokenFiles, location: Location) -> MappedShard:
    def cache() -> ShardCache:
        return ShardCache(source.cache.folder(), source.cache.max_bytes)

    raw = inspect_file(location)
    while True:
        path = location.local or cache().fetch(location, size=raw.size)
        try:
            return open_raw_shard(path, raw, cache)
        except FileNotFoundError:
            # Another process made room in the cache; a file of the user's own that is gone stays so.
            if location.local is not None:
                raise


def _foreign_id(file: File, start: int, piece: Tokens, vocab_size: int) -> UserError:
    number = int(np.flatnonzero((piece >= vocab_size) | (piece < 0))[0])
    return UserError(
        f"{clean_url(file.url)}: token {start + number} has id {int(piece[number])}",
        expected=f"ids from 0 to {vocab_size - 1}",
        fix="set vocab_size of this tokens source to that of the tokenizer that made the file, or write the file again",
    )


def _name(file: File) -> str:
    return file.url.rsplit("/", 1)[-1]


class _PlainUnpickler(pickle.Unpickler):
    """Loads dicts, lists, numbers and text. Whatever names a class or a function is refused before it is looked up."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it would call {module_name}.{global_name}")
