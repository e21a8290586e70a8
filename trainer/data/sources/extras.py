"""Packages that only some sources need, and that an installation may lack. Used by the modules of this package."""

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
            f"{work} cannot be read: {error}",
            expected=f"the packages of the extra `{extra}`",
            fix=f"pip install 'gpt-run[{extra}]'",
        ) from error
