"""The docstrings of this Python's standard library: prose for fine-tuning, questions and answers for `task: sft`."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from trainer.data import corpus
from trainer.data.sources.base import Document, Part, Source, digest, document

# Parsing is slow, so parts are smaller than those of plain text.
PART_BYTES = 1_000_000


class _Docstrings(Source):
    """Docstrings of the running Python's standard library: no download."""

    type: str
    max_files: int | None = Field(default=None, gt=0)
    """Read so many of the library's files, in an order that their names decide; null reads all."""

    def parts(self) -> list[Part]:
        parts: list[Part] = []
        names: list[str] = []
        size = 0
        for name, path in self._files():
            num_bytes = path.stat().st_size
            if names and size + num_bytes > PART_BYTES:
                parts.append(Part(names[0], size, tuple(names)))
                names, size = [], 0
            names.append(name)
            size += num_bytes
        return [*parts, Part(names[0], size, tuple(names))] if names else parts

    def read(self, part: Part) -> Iterator[Document]:
        files = dict(corpus.library_files())
        for name in part.files:
            for dotted, text in corpus.docstrings(name, files[name]):
                yield document(dotted, self.text_of(dotted, text))

    def fingerprint(self) -> str:
        files = [(name, path.stat().st_size) for name, path in self._files()]
        return digest([corpus.installation(), files])

    def record(self) -> dict[str, Any]:
        return {"type": self.type, "installation": corpus.installation()}

    @abstractmethod
    def text_of(self, dotted: str, text: str) -> str:
        """What a document says of the thing with this name and docstring."""

    def _files(self) -> list[tuple[str, Path]]:
        return [(name, path) for name, path in corpus.library_files() if name.endswith(".py")][: self.max_files]


class PythonDocstrings(_Docstrings):
    """Docstrings as documents of prose, each below the name of what it describes."""

    type: Literal["python-docstrings"]

    def text_of(self, dotted: str, text: str) -> str:
        return f"{dotted}\n\n{text}"


class PythonQuestions(_Docstrings):
    """Docstrings as conversations: what does X do? The docstring."""

    type: Literal["python-questions"]

    def text_of(self, dotted: str, text: str) -> str:
        messages = [
            {"role": "user", "content": f"What does {dotted} do?"},
            {"role": "assistant", "content": text.strip()},
        ]
        return json.dumps(messages, ensure_ascii=False)
