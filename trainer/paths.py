"""Names of files that come from elsewhere: a marker, a data set's description, a listing, an index of weights.

Whoever joins such a name to a folder takes `RelativePath` for it, or asks `stays_inside`: a name such as `../x` or
`/etc/x` would be read, or written, outside of the folder. Called by checkpoints, data and models. Whoever writes to
local disks alone asks `require_local` first.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from trainer.errors import UserError

# One slash: as a path, the two of a URL are one.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def require_local(path: Path, option: str, *, fix: str) -> None:
    """UserError where `path` was given as a URL: it would be written into a folder `s3:` here, and taken for sent.

    fix: how what is written gets to a store.
    """
    if _URL.match(str(path)):
        raise UserError(f"{option} {path} is a URL", expected="a path on this machine", fix=fix)


def stays_inside(name: str) -> bool:
    """Whether a path with forward slashes names something below the folder that it is joined to, and nothing else."""
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def _relative(name: str) -> str:
    if not stays_inside(name):
        raise ValueError(f"{name!r} leads out of its folder; expected a relative path without `..`")
    return name


def _single(name: str) -> str:
    if "/" in name or not stays_inside(name):
        raise ValueError(f"{name!r} is no name of a folder; expected one part of a path")
    return name


RelativePath = Annotated[str, AfterValidator(_relative)]
"""A path below the folder of the document that holds it."""
PathPart = Annotated[str, AfterValidator(_single)]
"""One part of a path."""
