"""A tokenizer.json as the files that Transformers' AutoTokenizer loads; called by every export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tokenizers import Tokenizer

from trainer.errors import UserError
from trainer.model.config import ModelSettings

# What may lie beside a tokenizer.json and belongs to it.
CHAT_TEMPLATE = "chat_template.jinja"


def write_tokenizer(tokenizer_file: Path, eos_id: int | None, config: ModelSettings, folder: Path) -> None:
    """Put the tokenizer into `folder`, with a chat template that lies beside it, as both are.

    Raises UserError for a file that is no tokenizer, ids that the model has no rows for, and an EOS id it lacks.
    """
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # the library raises plain Exception for a missing and for a malformed file
        raise UserError(
            f"{tokenizer_file}: {error}", expected="a tokenizer.json", fix="name the tokenizer the data was made with"
        ) from error
    # Not their number: a vocabulary may have holes.
    ids = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    if ids > config.vocab_size:
        raise UserError(
            f"{tokenizer_file} has ids up to {ids - 1}, model.vocab_size is {config.vocab_size}",
            expected="ids below model.vocab_size",
            fix="name the tokenizer the data was made with",
        )
    special = {}
    if eos_id is not None:
        eos = tokenizer.id_to_token(eos_id)
        if eos is None:
            raise UserError(
                f"{tokenizer_file} has no token {eos_id}",
                expected="an EOS id below its size",
                fix="take the id from the data set's dataset.json",
            )
        special = {"bos_token": eos, "eos_token": eos}
    shutil.copyfile(tokenizer_file, folder / "tokenizer.json")
    template = tokenizer_file.with_name(CHAT_TEMPLATE)
    if template.is_file():
        shutil.copyfile(template, folder / CHAT_TEMPLATE)
        # What the template writes as bos_token and eos_token.
        config_file = tokenizer_file.with_name("tokenizer_config.json")
        beside = json.loads(config_file.read_text()) if config_file.is_file() else {}
        special |= {role: beside[role] for role in ("bos_token", "eos_token") if role in beside}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context}
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", settings | {"clean_up_tokenization_spaces": False} | special)


def write_json(file: Path, values: object) -> None:
    """Indented, with sorted keys and a final line feed, as Transformers writes its own."""
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
