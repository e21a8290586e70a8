"""Plain text: a file is a document, or holds many with a separator between them. Plain or gz, bz2, xz, zst."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from trainer.data.sources.base import Document, Part, decoded, too_long
from trainer.data.sources.files import FileSource, at, cut
from trainer.data.sources.records import records
from trainer.data.sources.streams import compression_of, content, open_stored
from trainer.storage_errors import clean_url


class TextFiles(FileSource):
    """UTF-8 text files; each file is one document, or many with a separator between them."""

    type: Literal["text"]
    separator: str | None = Field(default=None, min_length=1)
    """What stands between the documents of a file, such as `<|endoftext|>`; null makes each file one document."""

    def parts(self) -> list[Part]:
        # Inside "\n\n\n" a reader that starts late would see another blank line than one that comes from the front.
        can_be_cut = self.separator is not None and not _overlaps_itself(self.separator)
        return cut(self.files(), lambda file: can_be_cut and compression_of(file.url) is None, self.part_bytes)

    def read_file(self, url: str, part: Part) -> Iterator[Document]:
        with open_stored(url) as file:
            if self.separator is None:
                name, text = clean_url(url), content(file, self.max_document_bytes)
                yield too_long(name, self.max_document_bytes) if text is None else decoded(name, text)
                return
            for record in records(file, part, self.separator.encode(), self.max_document_bytes):
                name = at(url, record.offset)
                if record.content is None:
                    yield too_long(name, record.num_bytes)
                elif record.content.strip():
                    yield decoded(name, record.content)


def _overlaps_itself(separator: str) -> bool:
    raw = separator.encode()
    return any(raw[:length] == raw[-length:] for length in range(1, len(raw)))
