"""The docstrings of this Python's standard library: prose for fine-tuning, questions and answers for `task: sft`."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from trainer.data import corpus
from trainer.data.sources.base import Document, Part, digest, document, whole_files
from trainer.data.sources.python_library import InstalledText

# Parsing is slow, so parts are smaller than those of plain text.
PART_BYTES = 1_000_000


class _Docstrings(InstalledText):
    """Docstrings of the running Python's standard library: no download."""

    type: str
    max_files: int | None = Field(default=None, gt=0)
    """Read so many of the library's files, in an order that their names decide; null reads all."""

    def parts(self) -> list[Part]:
        return whole_files(self._sizes(), PART_BYTES)

    def read(self, part: Part) -> Iterator[Document]:
        files = dict(corpus.library_files())
        for name in part.files:
            for dotted, text in corpus.docstrings(name, files[name]):
                yield document(dotted, self.text_of(dotted, text))

    def fingerprint(self) -> str:
        return digest([corpus.installation(), self._sizes()])

    @abstractmethod
    def text_of(self, dotted: str, text: str) -> str:
        """What a document says of the thing with this name and docstring."""

    def _sizes(self) -> list[tuple[str, int]]:
        files = [(name, path) for name, path in corpus.library_files() if name.endswith(".py")][: self.max_files]
        return [(name, path.stat().st_size) for name, path in files]


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
