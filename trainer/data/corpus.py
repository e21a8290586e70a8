"""The embedded corpus: text that every Python installation already carries.

Sources of the standard library (its tests too, where they are installed), the language reference behind `help()`, and
licence texts: real text, tens of megabytes, no download. The first run and the tests train on it. Files come in an
order that depends on their names alone, so that a cap takes an even sample. Used by `trainer.data.sources`.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".py", ".pyi", ".txt", ".rst", ".md", ".html")
# Installed packages differ from machine to machine; the topics come in as text, not as escaped strings.
LEFT_OUT = ("site-packages", "dist-packages", "__pycache__", "pydoc_data")


def library_files() -> list[tuple[str, Path]]:
    """Name and path of every text file of the standard library, in the corpus's order."""
    root = Path(sysconfig.get_path("stdlib"))
    names = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in LEFT_OUT]
        # Distributions link files into /etc; a trimmed image may lack what a link points at.
        paths = [Path(folder) / name for name in files if name.endswith(SUFFIXES)]
        names += [path.relative_to(root).as_posix() for path in paths if path.is_file()]
    return [(name, root / name) for name in sorted(names, key=_place)]


def help_topics() -> Iterator[tuple[str, str]]:
    """Name and text of the chapters of the language reference, where the installation has them."""
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError:
        return
    for name in sorted(topics, key=_place):
        yield f"pydoc/{name}", topics[name]


def installation() -> str:
    """The Python whose library this is: what the corpus depends on."""
    return f"{sys.implementation.name} {'.'.join(str(part) for part in sys.version_info[:3])}"


def _place(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
