"""Sources of text for preparation, picked by `type` in a pipeline's YAML.

A source is a settings class with four methods: `fingerprint` (cheap; tells whether the inputs changed), `total_bytes`
(for progress and sampling), `documents` and `record` (what dataset.json says of it). A new source is one class and one
name in `TextSource`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from trainer.data import corpus
from trainer.errors import UserError
from trainer.settings import Settings


class Document(NamedTuple):
    """A text and where it comes from; `text` is None where the bytes are not UTF-8."""

    name: str
    text: str | None
    num_bytes: int


class PythonLibrary(Settings):
    """Text that the running Python's own installation carries: no download."""

    type: Literal["python-library"]
    max_bytes: int | None = Field(default=None, gt=0)
    """Stop before the document that would exceed this many bytes; null takes all."""

    def fingerprint(self) -> str:
        files = [(name, path.stat().st_size) for name, path in corpus.library_files()]
        return _sha256([corpus.installation(), self.max_bytes, files])

    def total_bytes(self) -> int:
        total = sum(path.stat().st_size for _, path in corpus.library_files())
        total += sum(len(text.encode()) for _, text in corpus.help_topics())
        return total if self.max_bytes is None else min(total, self.max_bytes)

    def documents(self) -> Iterator[Document]:
        taken = 0
        for document in self._all_documents():
            taken += document.num_bytes
            if self.max_bytes is not None and taken > self.max_bytes:
                return
            yield document

    def record(self) -> dict[str, Any]:
        return {"type": self.type, "installation": corpus.installation()}

    def _all_documents(self) -> Iterator[Document]:
        # The reference first: it is small prose, and a cap should not lose it.
        for name, text in corpus.help_topics():
            yield Document(name, text, len(text.encode()))
        for name, path in corpus.library_files():
            yield _read(name, path)


class TextFiles(Settings):
    """UTF-8 text files; each file is one document."""

    type: Literal["text"]
    path: str = Field(min_length=1)
    """A file, a folder (all files below it, hidden ones left out) or a glob pattern."""

    def fingerprint(self) -> str:
        stats = [(str(path), path.stat()) for path in self._files()]
        return _sha256([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])

    def total_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._files())

    def documents(self) -> Iterator[Document]:
        for path in self._files():
            yield _read(str(path), path)

    def record(self) -> dict[str, Any]:
        return {"type": self.type, "path": self.path}

    def _files(self) -> list[Path]:
        path = Path(self.path).expanduser()
        if path.is_dir():
            below = ((name, name.relative_to(path)) for name in path.rglob("*") if name.is_file())
            found = [name for name, part in below if not any(piece.startswith(".") for piece in part.parts)]
        elif path.is_file():
            found = [path]  # its name may hold what a pattern would read as a wildcard
        else:
            root = Path(path.anchor)
            found = [name for name in root.glob(str(path.relative_to(root))) if name.is_file()]
        if not found:
            raise UserError(
                f"no files at {self.path}",
                expected="a file, a folder with files or a glob pattern that matches some",
                fix="correct `path` of this text source",
            )
        return sorted(found)


TextSource = Annotated[PythonLibrary | TextFiles, Field(discriminator="type")]


def _read(name: str, path: Path) -> Document:
    content = path.read_bytes()
    try:
        return Document(name, content.decode("utf-8"), len(content))
    except UnicodeDecodeError:
        return Document(name, None, len(content))


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
