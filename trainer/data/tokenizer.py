"""Byte-level BPE over the `tokenizers` library: train, load, name.

Used by preparation, inspection, generation and export. A tokenizer is one file, tokenizer.json, local or remote; its
fingerprint is stored in dataset.json and in checkpoints, so that weights never meet ids of another vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from trainer.data.remote import Location, locate
from trainer.errors import UserError
from trainer.storage_errors import clean_url

END_OF_TEXT = "<|endoftext|>"
# Beside a tokenizer.json: the roles of its special tokens, and more that is Transformers' own affair.
CONFIG_FILE = "tokenizer_config.json"
# 256 bytes and the end-of-text token.
SMALLEST_VOCABULARY = 257


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train byte-level BPE with GPT-2's way of splitting words; `vocab_size` counts the end-of-text token, id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load a tokenizer.json from a path or URL. Raises UserError where the file is missing or is none.

    Padding and truncation that the file may carry are switched off: a document is encoded as it is, and whole.
    """
    try:
        content = locate(str(path)).read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise _no_tokenizer(path, error) from error
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # `tokenizers` raises bare Exception
        raise _no_tokenizer(path, error) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def read_config(file: Location) -> dict[str, Any]:
    """The content of a tokenizer_config.json, empty where there is none. UserError for what is no JSON object."""
    if file.info() is None:
        return {}
    try:
        found = json.loads(file.read())
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}, not an object")
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{clean_url(file.url)} is not a tokenizer's configuration: {error}",
            expected=f"the {CONFIG_FILE} of a Hugging Face tokenizer, or none",
            fix="download it again, or take it out of the folder",
        ) from error
    return found


def token_text(value: Any) -> str | None:
    """A special token as a tokenizer_config.json spells it: its text, or an object with it; None for anything else."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """Id of the token that ends a document. Raises UserError where the vocabulary has none."""
    for name in (END_OF_TEXT, "<|end_of_text|>", "</s>"):
        number = tokenizer.token_to_id(name)
        if number is not None:
            return int(number)
    raise UserError(
        "the tokenizer has no end-of-text token",
        expected=f"{END_OF_TEXT}, <|end_of_text|> or </s> in its vocabulary",
        fix=f"add the special token {END_OF_TEXT} to the tokenizer",
    )


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id: a vocabulary may have holes, and a model needs a row for every id."""
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values())) + 1


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """Hex sha256 of the tokenizer's canonical JSON: independent of white space and of the order of keys."""
    canonical = json.dumps(json.loads(tokenizer.to_str()), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _no_tokenizer(path: str | Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is not a tokenizer: {error}",
        expected="a tokenizer.json of the `tokenizers` library",
        fix="check the path, or save the tokenizer again",
    )
