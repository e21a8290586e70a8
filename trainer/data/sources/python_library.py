"""The embedded corpus as a source: text that this Python's installation carries, for a first run without a download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from trainer.data import corpus
from trainer.data.sources.base import Document, Part, Source, decoded, digest, document

# Enough parts for the cores of a workstation.
PART_BYTES = 2_000_000


class PythonLibrary(Source):
    """Text that the running Python's own installation carries: no download."""

    type: Literal["python-library"]
    max_bytes: int | None = Field(default=None, gt=0)
    """Stop before the document that would exceed this many bytes; null takes all."""

    def parts(self) -> list[Part]:
        parts: list[Part] = []
        names: list[str] = []
        size = taken = 0
        for name, num_bytes in self._sizes():
            taken += num_bytes
            if self.max_bytes is not None and taken > self.max_bytes:
                break
            if names and size + num_bytes > PART_BYTES:
                parts.append(Part(names[0], size, tuple(names)))
                names, size = [], 0
            names.append(name)
            size += num_bytes
        return [*parts, Part(names[0], size, tuple(names))] if names else parts

    def read(self, part: Part) -> Iterator[Document]:
        topics, files = dict(corpus.help_topics()), dict(corpus.library_files())
        for name in part.files:
            yield decoded(name, files[name].read_bytes()) if name in files else document(name, topics[name])

    def fingerprint(self) -> str:
        files = [(name, path.stat().st_size) for name, path in corpus.library_files()]
        return digest([corpus.installation(), self.max_bytes, files])

    def total_bytes(self) -> int:
        total = sum(num_bytes for _, num_bytes in self._sizes())
        return total if self.max_bytes is None else min(total, self.max_bytes)

    def record(self) -> dict[str, Any]:
        return {"type": self.type, "installation": corpus.installation()}

    def _sizes(self) -> Iterator[tuple[str, int]]:
        # The reference first: it is small prose, and a cap should not lose it.
        for name, text in corpus.help_topics():
            yield name, len(text.encode())
        for name, path in corpus.library_files():
            yield name, path.stat().st_size
