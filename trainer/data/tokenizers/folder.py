"""The folder of a tokenizer: tokenizer.json and what makes it load as a Hugging Face fast tokenizer.

Called by `trainer.data.tokenizers.pipeline`. tokenizer_info.json comes first, and again last: it tells a folder that
may be changed from one that must not, and says from which inputs the files were made and what they are; a folder whose
files agree with it is complete. One process writes at a time, under a kernel lock that dies with its owner.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from trainer.data.output import LOCK_FILE
from trainer.data.shards import TOKENIZER_FILE, file_sha256
from trainer.data.tokenizer import CONFIG_FILE, end_of_text_id, tokenizer_fingerprint, vocabulary_size
from trainer.durable import write_atomically
from trainer.errors import UserError

logger = logging.getLogger(__name__)

SPECIAL_FILE = "special_tokens_map.json"
INFO_FILE = "tokenizer_info.json"
FILES = (TOKENIZER_FILE, CONFIG_FILE, SPECIAL_FILE)


class TokenizerInfo(BaseModel):
    """The content of tokenizer_info.json."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    inputs_sha256: str
    """Hash of all that decides the tokenizer."""
    made_from: dict[str, Any] = {}
    """Settings and sources, for people."""
    fingerprint: str = ""
    """That of the tokenizer, as in dataset.json and in checkpoints."""
    vocab_size: int = 0
    """Ids."""
    eos_id: int = 0
    """Id of the token that ends a document."""
    files: dict[str, str] = {}
    """Hex sha256 of each file by its name; empty while the folder is unfinished."""


def check_ours(folder: Path) -> None:
    """Raise UserError where `folder` holds what this module did not write."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file", expected="a folder", fix="give another --output")
    foreign = sorted(path.name for path in folder.iterdir() if not _own_temporary(path))
    if foreign and _read_info(folder) is None:
        raise UserError(
            f"{folder} holds files that this command did not write: {', '.join(foreign[:5])}",
            expected="an empty folder, a new one, or one that this command wrote",
            fix="give another --output",
        )


def finished(folder: Path, inputs_sha256: str) -> TokenizerInfo | None:
    """What the folder says of itself if it was made from these inputs and all its files are as they were written."""
    info = _read_info(folder)
    if info is None or info.inputs_sha256 != inputs_sha256 or not info.files:
        return None
    for name, sha256 in info.files.items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != sha256:
            logger.warning("making %s again: %s is missing or not as it was written", folder, name)
            return None
    return info


def check_replaceable(folder: Path, inputs_sha256: str, *, replace: bool) -> None:
    """Raise UserError where `folder` holds a finished tokenizer from other inputs that is not to be replaced."""
    info = _read_info(folder)
    if info is not None and info.files and info.inputs_sha256 != inputs_sha256 and not replace:
        raise UserError(
            f"{folder} holds a tokenizer from other inputs",
            expected="an output of these settings and sources, all unchanged",
            fix="give another --output, or replace the tokenizer with --replace",
        )


def write(
    folder: Path, tokenizer: Tokenizer, named: dict[str, str], *, inputs_sha256: str, made_from: dict[str, Any]
) -> TokenizerInfo:
    """Write all files; what was there stays usable until now. `named` are special tokens by role."""
    eos_id = end_of_text_id(tokenizer)
    named = {"eos_token": str(tokenizer.id_to_token(eos_id)), **named}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **named,
    }
    contents = {
        TOKENIZER_FILE: tokenizer.to_str(pretty=True).encode(),
        CONFIG_FILE: _json(config),
        SPECIAL_FILE: _json(named),
    }
    for path in folder.iterdir():
        if _own_temporary(path) and path.name != LOCK_FILE:
            path.unlink()
    _write_info(folder, TokenizerInfo(inputs_sha256=inputs_sha256))
    for name, content in contents.items():
        write_atomically(folder / name, content)
    info = TokenizerInfo(
        inputs_sha256=inputs_sha256,
        made_from=made_from,
        fingerprint=tokenizer_fingerprint(tokenizer),
        vocab_size=vocabulary_size(tokenizer),
        eos_id=eos_id,
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )
    _write_info(folder, info)
    return info


def _own_temporary(path: Path) -> bool:
    """The lock, and a file that was being written when its process was killed."""
    return path.name == LOCK_FILE or any(path.name.startswith(f".{name}.") for name in (*FILES, INFO_FILE))


def _read_info(folder: Path) -> TokenizerInfo | None:
    try:
        return TokenizerInfo.model_validate_json((folder / INFO_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _write_info(folder: Path, info: TokenizerInfo) -> None:
    write_atomically(folder / INFO_FILE, _json(info.model_dump(mode="json")))


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
