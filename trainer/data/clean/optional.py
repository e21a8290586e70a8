"""Import of packages that only cleaning needs, with the error that tells how to get them. Used by the steps."""

from __future__ import annotations

import importlib
from typing import Any

from trainer.errors import UserError


def optional_module(name: str, *, needed_by: str) -> Any:
    """The module `name`, typed Any. Raises UserError where its package is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise UserError(
            f"{needed_by} needs the Python package of the module `{name}`, which is not installed",
            expected="an installation with the extra `data`",
            fix="pip install 'gpt-run[data]', or leave the step out",
        ) from error
