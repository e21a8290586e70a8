"""Prompts of a command line: texts as they are written, and files of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.errors import UserError


def read_prompts(texts: Sequence[str], files: Sequence[str]) -> list[str]:
    """The texts, then one prompt for each file (`-`: standard input), without the newline that ends a file.

    Neither texts nor files are one empty prompt. UserError for a file that is not there or not UTF-8.
    """
    return [*texts, *map(_read, files)] or [""]


def _read(file: str) -> str:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode().removesuffix("\n")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(
            f"--prompt-file {file}: {error.strerror}",
            expected="a text file, or - for standard input",
            fix="check the path",
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"--prompt-file {file}: {error}", expected="text in UTF-8", fix="convert it, or name another file"
        ) from error
