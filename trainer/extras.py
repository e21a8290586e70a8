"""Packages that an installation may lack. Around their imports, in all parts of the trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trainer.errors import UserError


@contextmanager
def needs(extra: str, work: str) -> Iterator[None]:
    """Around an import: a package that is not installed becomes a UserError with the extra that brings it."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{work}: a package is missing ({error})",
            expected=f"the packages of the extra `{extra}`",
            fix=f"pip install 'gpt-run[{extra}]'",
        ) from error
