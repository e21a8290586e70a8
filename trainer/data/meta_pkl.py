"""nanoGPT's meta.pkl, which lies beside token files and says how large their vocabulary is.

Read by `dataset`, which uses such files where they are, and by `sources.token_files`, which copies them. A pickle can
run any code; this one is taken apart by a reader that knows plain values alone.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, NamedTuple

from trainer.data.remote import Location
from trainer.errors import UserError
from trainer.storage_errors import clean_url

META_FILE = "meta.pkl"
# Far more than nanoGPT writes: a vocabulary of characters in both directions.
MAX_BYTES = 64 * 1024 * 1024


class Meta(NamedTuple):
    """What a meta.pkl says."""

    vocab_size: int
    characters: dict[int, str]
    """The text of each id where the vocabulary is one of characters; empty otherwise."""


def read_meta(location: Location) -> Meta | None:
    """The content of a meta.pkl; None where there is no such file. Raises UserError for any other content."""
    if location.info() is None:
        return None
    try:
        raw = _PlainUnpickler(io.BytesIO(location.read(0, MAX_BYTES))).load()
        vocab_size, characters = raw["vocab_size"], raw.get("itos", {})
        if type(vocab_size) is not int or vocab_size <= 0:
            raise ValueError(f"vocab_size is {vocab_size!r}")
        if not all(type(number) is int and type(text) is str for number, text in characters.items()):
            raise ValueError("itos does not lead from numbers to text")
    except Exception as error:  # damaged pickles raise anything
        raise UserError(
            f"{clean_url(location.url)} is not nanoGPT's: {type(error).__name__}: {error}",
            expected="a pickled dict of plain values with vocab_size, and itos for characters",
            fix="write it again, or take it away: the run then goes by model.vocab_size",
        ) from error
    return Meta(vocab_size, characters)


class _PlainUnpickler(pickle.Unpickler):
    """Loads dicts, lists, numbers and text. Whatever names a class or a function is refused before it is looked up."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it would call {module_name}.{global_name}")
