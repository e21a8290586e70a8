"""The embedded corpus: text that every Python installation already carries.

Sources of the standard library (its tests too, where they are installed), the language reference behind `help()`, and
licence texts: real text, tens of megabytes, no download. The first run and the tests train on it; docstrings are its
prose, and questions and answers can be made of them. Files come in an
order that depends on their names alone, so that a cap takes an even sample. Used by `trainer.data.sources`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".py", ".pyi", ".txt", ".rst", ".md", ".html")
# Installed packages differ from machine to machine; the topics come in as text, not as escaped strings.
LEFT_OUT = ("site-packages", "dist-packages", "__pycache__", "pydoc_data")


def library_files() -> tuple[tuple[str, Path], ...]:
    """Name and path of every text file of the standard library, in the corpus's order."""
    return _text_files(Path(sysconfig.get_path("stdlib")))


@functools.cache
def _text_files(root: Path) -> tuple[tuple[str, Path], ...]:
    """Looked for once a process: each part of a source asks for them."""
    names = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in LEFT_OUT]
        # Distributions link files into /etc; a trimmed image may lack what a link points at.
        found = [name for name in files if name.endswith(SUFFIXES) and Path(folder, name).is_file()]
        below_root = Path(folder).relative_to(root)
        names += [name if folder == str(root) else f"{below_root.as_posix()}/{name}" for name in found]
    return tuple((name, root / name) for name in sorted(names, key=_place))


def help_topics() -> Iterator[tuple[str, str]]:
    """Name and text of the chapters of the language reference, where the installation has them."""
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError:
        return
    for name in sorted(topics, key=_place):
        yield f"pydoc/{name}", topics[name]


def docstrings(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """Dotted name and text of every docstring of a Python file of the library: its own, of its classes and functions.

    Of a file that cannot be parsed (the library's tests have some) there are none.
    """
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    waiting: list[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]] = [(module, tree)]
    while waiting:
        dotted, node = waiting.pop()
        text = ast.get_docstring(node)
        if text and not text.isspace():
            yield dotted, text
        waiting += [
            (f"{dotted}.{child.name}", child)
            for child in reversed(node.body)
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]


def installation() -> str:
    """The Python whose library this is: what the corpus depends on."""
    return f"{sys.implementation.name} {'.'.join(str(part) for part in sys.version_info[:3])}"


def _place(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
