"""Names of files that come from elsewhere: a marker, a data set's description, a listing, an index of weights.

Whoever joins such a name to a folder takes `RelativePath` for it, or asks `stays_inside`: a name such as `../x` or
`/etc/x` would be read, or written, outside of the folder. Called by checkpoints, data and models.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


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
