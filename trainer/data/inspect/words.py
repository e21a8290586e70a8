"""What ids stand for: the tokenizer behind a set, as text. Used by `trainer.data.inspect.run` and `summary`.

A prepared set says which tokenizer made it; its tokenizer.json lies beside it, or the user names one. Raw files say
nothing, unless nanoGPT's meta.pkl lies beside them or the user names a tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer as Engine

from trainer.data.inspect.report import Tokenizer
from trainer.data.meta_pkl import META_FILE, read_meta
from trainer.data.remote import locate
from trainer.data.shards import DATASET_FILE
from trainer.data.split import TokenizerInfo
from trainer.data.tokenizer import end_of_text_id, load_tokenizer, tokenizer_fingerprint, vocabulary_size
from trainer.data.tokenizers.config import file_of
from trainer.errors import UserError
from trainer.storage_errors import clean_url

# What sentencepiece and its kin write for a space.
_SPACE = "\u2581"


@dataclass(frozen=True)
class Words:
    """What is known of the ids of a set."""

    tokenizer: Tokenizer | None = None
    decode: Callable[[Sequence[int]], str] | None = None
    """The text of some ids."""
    spell: Callable[[int], str | None] | None = None
    """One id as people read it; None where the vocabulary lacks it."""


def words_of_prepared(record: TokenizerInfo, named: str | None) -> Words:
    """The tokenizer of a prepared set: the one that is `named`, else that beside the set; without either, only numbers.

    Raises UserError where it is not the one that made the tokens.
    """
    known = Tokenizer(
        name=record.name, fingerprint=record.fingerprint, vocab_size=record.vocab_size, eos_id=record.eos_id
    )
    path = file_of(named).url if named is not None else record.path
    if path is None:
        return Words(known)
    engine = load_tokenizer(path)
    found = tokenizer_fingerprint(engine)
    if found != record.fingerprint:
        raise UserError(
            f"{clean_url(path)} is another tokenizer: it has fingerprint {found}",
            expected=f"{record.fingerprint} ({record.name}), which {DATASET_FILE} says made the tokens",
            fix="put back the tokenizer.json that the set was prepared with, or prepare the set again",
        )
    return _words(engine, known)


def words_of_raw(first_file: str, named: str | None) -> Words:
    """What is known of raw files: the tokenizer that is `named`, else nanoGPT's meta.pkl beside `first_file`."""
    if named is not None:
        engine = load_tokenizer(file_of(named).url)
        known = Tokenizer(
            name=clean_url(named),
            fingerprint=tokenizer_fingerprint(engine),
            vocab_size=vocabulary_size(engine),
            eos_id=_end_of_text(engine),
        )
        return _words(engine, known)
    meta = read_meta(locate(first_file).sibling(META_FILE))
    if meta is None:
        return Words()
    known = Tokenizer(name=META_FILE, fingerprint=None, vocab_size=meta.vocab_size, eos_id=None)
    if not meta.characters:
        return Words(known)
    characters = meta.characters
    return Words(known, lambda ids: "".join(characters.get(number, "\ufffd") for number in ids), characters.get)


def _words(engine: Engine, known: Tokenizer) -> Words:
    def decode(ids: Sequence[int]) -> str:
        return str(engine.decode(list(ids), skip_special_tokens=False))

    def spell(number: int) -> str | None:
        token = engine.id_to_token(number)
        if token is None or _SPACE in token:
            return token if token is None else str(token).replace(_SPACE, " ")
        text = decode([number])
        # A piece of a character has no text of its own.
        return str(token) if "\ufffd" in text else text

    return Words(known, decode, spell)


def _end_of_text(engine: Engine) -> int | None:
    try:
        return end_of_text_id(engine)
    except UserError:
        return None
