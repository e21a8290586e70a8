"""The embedded corpus as a source: text that this Python's installation carries, for a first run without a download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from trainer.data import corpus
from trainer.data.sources.base import Document, Part, Source, decoded, digest, document, whole_files

# Enough parts for the cores of a workstation.
PART_BYTES = 2_000_000


class InstalledText(Source):
    """Text that the running Python's installation carries: what it gives depends on that Python's version."""

    def record(self) -> dict[str, Any]:
        return super().record() | {"installation": corpus.installation()}


class PythonLibrary(InstalledText):
    """Text that the running Python's own installation carries: no download."""

    type: Literal["python-library"]
    max_bytes: int | None = Field(default=None, gt=0)
    """Stop before the document that would exceed this many bytes; null takes all."""

    def parts(self) -> list[Part]:
        return whole_files(self._taken(), PART_BYTES)

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

    def _taken(self) -> Iterator[tuple[str, int]]:
        total = 0
        for name, num_bytes in self._sizes():
            total += num_bytes
            if self.max_bytes is not None and total > self.max_bytes:
                return
            yield name, num_bytes

    def _sizes(self) -> Iterator[tuple[str, int]]:
        # The reference first: it is small prose, and a cap should not lose it.
        for name, text in corpus.help_topics():
            yield name, len(text.encode())
        for name, path in corpus.library_files():
            yield name, path.stat().st_size
