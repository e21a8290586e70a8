"""Parquet: FineWeb-Edu, SlimPajama and most data sets of Hugging Face. A part is a few row groups of one file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from trainer.data.sources.base import Document, Part, decoded, document, too_long
from trainer.data.sources.files import File, FileSource, broken_document
from trainer.data.sources.streams import Broken, open_stored
from trainer.errors import UserError
from trainer.storage_errors import clean_url

# Footers that are read at a time; each waits for its store.
THREADS = 16
ROWS_AT_ONCE = 256
_MAGIC = b"PAR1"


class Parquet(FileSource):
    """Parquet files, one document per row."""

    type: Literal["parquet"]
    field: str = Field(default="text", min_length=1)
    """Column with the text; a dot leads into a struct: `meta.body`."""

    def parts(self) -> list[Part]:
        files = self.files()
        with ThreadPoolExecutor(min(THREADS, len(files))) as pool:
            return [part for parts in pool.map(lambda file: parts_of(file, self.part_bytes), files) for part in parts]

    def read_file(self, url: str, part: Part) -> Iterator[Document]:
        return read_rows(url, part, self.field, self.max_document_bytes)


def parts_of(file: File, part_bytes: int) -> list[Part]:
    """Row groups of a file in parts of about `part_bytes`; one part of a file without a footer: reading tells why."""
    try:
        with open_stored(file.url) as stored:
            footer = _opened(stored).metadata
    except Broken:
        return [Part(clean_url(file.url), file.num_bytes, (file.url,))]
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    sizes = [sum(group.column(i).total_compressed_size for i in range(group.num_columns)) for group in groups]
    edges, size = [0], 0
    for number, num_bytes in enumerate(sizes):
        if size and size + num_bytes > part_bytes:
            edges.append(number)
            size = 0
        size += num_bytes
    edges.append(len(sizes))
    return [
        Part(f"{clean_url(file.url)}#group-{start}", sum(sizes[start:end]), (file.url,), start, end)
        for start, end in pairwise(edges)
    ]


def read_rows(url: str, part: Part, field: str, max_bytes: int) -> Iterator[Document]:
    """Documents of the row groups of a part. Raises Broken without a footer, UserError where the column is missing."""
    with open_stored(url) as stored:
        file = _opened(stored)
        _check_column(file.schema_arrow, field, url)
        groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
        for number in range(part.start, len(groups) if part.end is None else part.end):
            row = sum(group.num_rows for group in groups[:number])
            batches = file.iter_batches(ROWS_AT_ONCE, row_groups=[number], columns=[field])
            try:
                while (column := _next_column(batches, field, groups[number].column(0).data_page_offset)) is not None:
                    yield from _documents(url, column, row, max_bytes)
                    row += len(column)
            except Broken as broken:  # the other groups are as good as before
                yield broken_document(url, broken)


def _opened(stored: io.RawIOBase) -> Any:
    """The file with its footer read. Raises Broken where it has none."""
    try:
        return pq.ParquetFile(stored)
    except (pa.ArrowException, OSError) as error:
        if not _is_damage(error):
            raise
        size = stored.seek(0, io.SEEK_END)
        stored.seek(0)
        # The footer is written last.
        cut_off = size < len(_MAGIC) or (stored.read(4) == _MAGIC and not _ends_with_magic(stored))
        raise Broken("truncated" if cut_off else "malformed", size if cut_off else 0) from error


def _ends_with_magic(stored: io.RawIOBase) -> bool:
    stored.seek(-len(_MAGIC), io.SEEK_END)
    return stored.read(len(_MAGIC)) == _MAGIC


def _next_column(batches: Any, field: str, offset: int) -> Any:
    try:
        batch = next(batches, None)
        if batch is None:
            return None
        first, *below = field.split(".") if field not in batch.schema.names else [field]
        column = batch.column(first)
        for name in below:
            column = pc.struct_field(column, name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        # As bytes: one value that is not UTF-8 must not cost the others.
        return column.cast(pa.large_binary())
    except (pa.ArrowException, OSError) as error:
        if not _is_damage(error):
            raise
        raise Broken("malformed", offset) from error


def _documents(url: str, column: Any, row: int, max_bytes: int) -> Iterator[Document]:
    """Documents of a column of bytes whose first value is of row number `row`."""
    for number, num_bytes in enumerate(pc.binary_length(column).to_pylist()):
        name = f"{clean_url(url)}#{row + number}"
        if num_bytes is None:
            yield document(name, "")
        elif num_bytes > max_bytes:
            yield too_long(name, num_bytes)
        else:
            yield decoded(name, column[number].as_py())


def _check_column(schema: Any, field: str, url: str) -> None:
    kinds = dict(_leaves(schema))
    kind = kinds.get(field)
    if kind is not None and _is_text(kind):
        return
    found = f"has no column {field!r}" if kind is None else f"has {kind} in column {field!r}"
    texts = [name for name, kind in kinds.items() if _is_text(kind)]
    raise UserError(
        f"{clean_url(url)} {found}",
        expected=f"a column of text: {', '.join(texts) or 'it has none'} (all columns: {', '.join(kinds)})",
        fix="set `field` of this source to the column that holds the text",
    )


def _leaves(fields: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields:
        if pa.types.is_struct(field.type):
            yield from _leaves(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field.type


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in (*tests, pa.types.is_binary, pa.types.is_large_binary))


def _is_damage(error: Exception) -> bool:
    """True for what Arrow raises about content; what the store raises is not damage."""
    return isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)
