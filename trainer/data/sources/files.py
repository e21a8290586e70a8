"""What all sources that read files share: which files there are, how they are cut into parts, and what a fault does.

A subclass reads one file, or a range of one, in `read_file`; what it cannot read it raises as `Broken` or gives as a
document with a problem. Base of the modules of this package but `python_library`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from pydantic import Field

from trainer.data.fetch.checksums import SUMS_FILE
from trainer.data.remote import Location, is_hidden, locate, version_of
from trainer.data.sources.base import FAULTS, Document, Part, Source, digest, whole_files
from trainer.data.sources.streams import Broken
from trainer.errors import UserError
from trainer.storage_errors import clean_url

_MEANING = {
    "utf-8": "not UTF-8",
    "truncated": "cut off",
    "malformed": "not readable as {type}",
    "too-long": "longer than max_document_bytes",
    "empty": "without text",
}


class File(NamedTuple):
    """A file of a source."""

    url: str
    num_bytes: int
    version: str


class Reading(Source):
    """How files are read, and what to do about those that are damaged."""

    type: str
    on_error: Literal["skip", "stop"] = "skip"
    """On a document that cannot be read, leave it out and count it, or stop."""
    max_document_bytes: int = Field(default=100_000_000, gt=0)
    """Longest document in bytes; longer ones are left out, counted, and never held in memory."""
    # Keeps one core busy for some ten seconds: small against a corpus, large against the cost of starting on it.
    part_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    """Stored bytes that one core reads at a time; larger files are cut where their format allows it."""


class FileSource(Reading):
    """Files somewhere."""

    path: str = Field(min_length=1)
    """A file, a folder (all files below it, without hidden ones and SHA256SUMS) or a glob pattern; local or any fsspec
    URL."""

    def parts(self) -> list[Part]:
        return grouped(self.files(), self.part_bytes)

    def read(self, part: Part) -> Iterator[Document]:
        for url in part.files:
            for document in self._documents_of(url, part):
                if self.on_error == "stop" and document.problem in FAULTS:
                    raise self._fault(document)
                yield document

    def fingerprint(self) -> str:
        return digest([tuple(file) for file in self.files()])

    def record(self) -> dict[str, Any]:
        return super().record() | {"path": clean_url(self.path)}

    def files(self) -> list[File]:
        """The files of this source, by name. Raises UserError where there are none."""
        found = list_files(self.path)
        if not found:
            raise UserError(
                f"no files at {clean_url(self.path)}",
                expected="a file, a folder with files or a glob pattern that matches some",
                fix=f"correct `path` of this {self.type} source",
            )
        return found

    @abstractmethod
    def read_file(self, url: str, part: Part) -> Iterator[Document]:
        """The documents of one file of a part. May raise Broken: what it gave before that counts."""

    def _documents_of(self, url: str, part: Part) -> Iterator[Document]:
        try:
            yield from self.read_file(url, part)
        except Broken as broken:
            yield broken_document(url, broken)

    def _fault(self, document: Document) -> UserError:
        assert document.problem is not None, "only documents with a problem are faults"
        return UserError(
            f"{document.name} is {_MEANING[document.problem].format(type=self.type)}",
            expected=f"documents of at most {self.max_document_bytes} bytes of UTF-8 text in whole files",
            fix="repair or remove it, or set on_error: skip for this source to leave it out and count it",
        )


def at(url: str, offset: int) -> str:
    """The name of a place in a file."""
    return f"{clean_url(url)}@{offset}"


def broken_document(url: str, broken: Broken) -> Document:
    """What stands for the documents that a broken file would have had."""
    return Document(at(url, broken.offset), None, 0, broken.problem)


def list_files(path: str) -> list[File]:
    """The files at a path, below a folder or matching a pattern, folder by folder; [] where there are none.

    What `gpt-run data fetch` writes beside the files of a folder, its list of hashes, is none of them.
    """
    place = locate(path)
    info = place.info()
    if info is None:
        found = place.glob() if any(sign in path for sign in "*?[") else {}
    elif info["type"] == "file":  # its name may hold what a pattern would read as a wildcard
        found = {place.path: info}
    else:
        below = place.find()
        texts = {name: entry for name, entry in below.items() if not is_hidden(name) and name != SUMS_FILE}
        found = {place.join(name).path: entry for name, entry in texts.items()}
    files = [File(_url(place, name), int(entry["size"] or 0), version_of(entry) or "") for name, entry in found.items()]
    return sorted(files, key=lambda file: file.url.split("/"))


def _url(place: Location, path: str) -> str:
    return path if place.local is not None else str(place.fs.unstrip_protocol(path))


def grouped(files: Iterable[File], part_bytes: int) -> list[Part]:
    """Parts of whole files: small files that follow each other share one."""
    parts = whole_files(((file.url, file.num_bytes) for file in files), part_bytes)
    return [replace(part, name=clean_url(part.name) + _more(part)) for part in parts]


def cut(files: Sequence[File], can_be_cut: Callable[[File], bool], part_bytes: int) -> list[Part]:
    """Parts of files of which large ones are cut into byte ranges, where their format lets a reader start inside."""
    parts: list[Part] = []
    small: list[File] = []
    for file in files:
        if file.num_bytes <= part_bytes:
            small.append(file)
            continue
        parts += grouped(small, part_bytes)
        small.clear()
        parts += _ranges(file, part_bytes) if can_be_cut(file) else grouped([file], part_bytes)
    return parts + grouped(small, part_bytes)


def _more(part: Part) -> str:
    return f" and {len(part.files) - 1} more" if len(part.files) > 1 else ""


def _ranges(file: File, part_bytes: int) -> list[Part]:
    count = -(-file.num_bytes // part_bytes)
    edges = [file.num_bytes * number // count for number in range(count + 1)]
    return [
        Part(at(file.url, start), end - start, (file.url,), start, None if end == file.num_bytes else end)
        for start, end in pairwise(edges)
    ]
