"""The prepared format: Arrow IPC shards, and the dataset.json that describes them (docs/CONTRACTS, "Dataset").

`ShardWriter` and `write_dataset_json` are used by preparation; `open_arrow_shard` and `load_dataset_json` by
`trainer.data.dataset`. A shard holds one row per document in the column `tokens`, the end-of-text token included;
`MappedShard` sees it as one run of tokens, without a copy. A packed set's rows are whole samples, all of one length,
with what each token is for in a second column (`trainer.data.marks`). dataset.json is written last: a folder without it
is not a data set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.data.marks import with_marks
from trainer.durable import durable_rename, write_atomically
from trainer.errors import UserError
from trainer.paths import RelativePath

DATASET_FILE = "dataset.json"
TOKENIZER_FILE = "tokenizer.json"
FORMAT = 1
# Keys that do not change what a run reads; without them two machines that prepare the same data agree on its name.
NOT_IN_FINGERPRINT = ("fingerprint", "created_at")

Tokens = npt.NDArray[Any]
Offsets = npt.NDArray[Any]


class _Description(BaseModel):
    # Keys may be added by later versions of format 1, so unknown ones are read past.
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class ShardInfo(_Description):
    """One shard file."""

    file: RelativePath
    """Path relative to the folder."""
    documents: int = Field(ge=0)
    tokens: int = Field(ge=0)
    """Tokens, end-of-text tokens included."""
    text_bytes: int = Field(ge=0)
    """UTF-8 bytes of the text behind the tokens."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hex sha256 of the file; copies of it are named after it."""
    bytes: int | None = None
    """Size of the file; a quick check against truncation."""


class SplitInfo(_Description):
    """One split: its totals and shards, in order."""

    tokens: int
    documents: int
    shards: tuple[ShardInfo, ...]

    @classmethod
    def of(cls, shards: Sequence[ShardInfo]) -> Self:
        """The split made of these shards."""
        tokens, documents = sum(s.tokens for s in shards), sum(s.documents for s in shards)
        return cls(tokens=tokens, documents=documents, shards=tuple(shards))


class TokenizerRecord(_Description):
    """The tokenizer that made the tokens."""

    name: str
    fingerprint: str
    vocab_size: int
    eos_id: int


class PackingRecord(_Description):
    """How the rows of a packed set were filled with conversations (`trainer.data.prepare.packing`)."""

    sequence_length: int = Field(ge=2)
    """Length of the sequences that can be read; a row has one token more."""
    samples: int
    """Conversations in all rows of all splits."""
    cut_samples: int
    """Of these, longer ones that lost their beginning."""
    answer_tokens: int
    """Tokens that count in the loss."""
    padding_tokens: int
    """Tokens that fill rows up."""


class DatasetInfo(_Description):
    """The content of dataset.json."""

    format: Literal[1] = 1
    name: str
    fingerprint: str = ""
    tokenizer: TokenizerRecord
    dtype: Literal["uint16", "uint32"]
    splits: dict[str, SplitInfo]
    sources: tuple[dict[str, Any], ...] = ()
    filters: tuple[dict[str, Any], ...] = ()
    packing: PackingRecord | None = None
    """Of a packed set; the key is absent from others."""
    created_at: str


def load_dataset_json(text: bytes, where: str) -> DatasetInfo:
    """Parse dataset.json; `where` names the file in errors. Raises UserError for anything but a whole, known file."""
    try:
        raw = json.loads(text)
        number = raw["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{where} is not a data set's description: {error}",
            expected="JSON with the key `format`, as `gpt-run data prepare` writes it",
            fix="prepare the data set again",
        ) from error
    if number != FORMAT:
        raise UserError(
            f"{where} has format {number!r}",
            expected=f"format {FORMAT}, the one this version reads",
            fix="update gpt-run, or prepare the data set again with this version",
        )
    try:
        info = DatasetInfo.model_validate(raw)
    except ValidationError as error:
        raise UserError(
            f"{where}: {'; '.join(_complaint(item) for item in error.errors())}",
            expected="the keys of a data set of format 1",
            fix="prepare the data set again",
        ) from error
    if info.fingerprint != fingerprint(raw):
        raise UserError(
            f"{where} has fingerprint {info.fingerprint}, its content gives {fingerprint(raw)}",
            expected="a file that was not changed after it was written",
            fix="prepare the data set again; do not edit dataset.json by hand",
        )
    return info


def fingerprint(raw: dict[str, Any]) -> str:
    """Hex sha256 of a description's canonical JSON, without the keys of NOT_IN_FINGERPRINT."""
    rest = {key: value for key, value in raw.items() if key not in NOT_IN_FINGERPRINT}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_dataset_json(folder: Path, info: DatasetInfo) -> DatasetInfo:
    """Complete the fingerprint and write dataset.json atomically; returns what was written."""
    # Sets of before this key keep their fingerprints.
    absent = {"packing"} if info.packing is None else None
    written = info.model_copy(update={"fingerprint": fingerprint(info.model_dump(mode="json", exclude=absent))})
    write_atomically(folder / DATASET_FILE, written.model_dump_json(indent=1, exclude=absent).encode() + b"\n")
    return written


def token_dtype(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The narrowest stored type that holds every id of a vocabulary."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


class ShardWriter:
    """Writes the shards of one split; holds at most one record batch in memory. Use it as a context manager.

    A shard takes its name when it is whole. Leaving the context after an error drops the one under way.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        dtype: Literal["uint16", "uint32"],
        shard_tokens: int,
        batch_tokens: int = 1 << 22,
        after: Sequence[ShardInfo] = (),
        on_finish: Callable[[tuple[ShardInfo, ...]], None] = lambda _: None,
        marked: bool = False,
    ) -> None:
        """A shard ends with the document that reaches `shard_tokens`; documents are never cut.

        `marked` shards have a mark for each token.

        `after` are the split's first shards, which an interrupted writer has finished: this one goes on behind them.
        `on_finish` is called with all shards, in order, whenever another one is whole.
        """
        self._folder, self._split = folder, split
        self._dtype = np.dtype(dtype)
        columns = {"tokens": self._dtype} | ({"marks": np.dtype(np.uint8)} if marked else {})
        self._schema = pa.schema([(name, pa.list_(pa.from_numpy_dtype(kind))) for name, kind in columns.items()])
        self._shard_tokens, self._batch_tokens = shard_tokens, batch_tokens
        self._done, self._on_finish = list(after), on_finish
        self._pending: list[Tokens] = []
        self._pending_marks: list[Tokens] = []
        self._pending_lengths: list[npt.NDArray[np.int64]] = []
        self._pending_tokens = 0
        self._writer: Any = None
        self._file: Any = None
        self._tokens = self._documents = self._text_bytes = 0
        (folder / split).mkdir(parents=True, exist_ok=True)

    def add(self, tokens: Sequence[int] | Tokens, text_bytes: int) -> None:
        """Append one document: its tokens, the end-of-text token included, and the bytes of its text."""
        self.extend(np.asarray(tokens), [len(tokens)], [text_bytes])

    def extend(
        self, tokens: Tokens, lengths: npt.ArrayLike, text_bytes: npt.ArrayLike, marks: Tokens | None = None
    ) -> None:
        """Append documents: their tokens [sum of lengths] end to end, and of each [n] its tokens and bytes of text.

        `marks` are those of the tokens, where the shards have them.
        """
        # A copy: what was given may be a file that is gone before the batch is written.
        tokens = np.array(tokens, dtype=self._dtype)
        lengths, text_bytes = np.asarray(lengths, dtype=np.int64), np.asarray(text_bytes, dtype=np.int64)
        ends = np.cumsum(lengths)
        taken_documents = taken_tokens = 0
        while taken_documents < len(ends):
            # The next document that fills the shard or the batch ends what is taken now.
            room = min(self._shard_tokens - self._tokens, self._batch_tokens - self._pending_tokens)
            stop = min(int(np.searchsorted(ends, taken_tokens + room)) + 1, len(ends))
            end = int(ends[stop - 1])
            self._pending.append(tokens[taken_tokens:end])
            if marks is not None:
                self._pending_marks.append(np.array(marks[taken_tokens:end], dtype=np.uint8))
            self._pending_lengths.append(lengths[taken_documents:stop])
            self._pending_tokens += end - taken_tokens
            self._tokens += end - taken_tokens
            self._documents += stop - taken_documents
            self._text_bytes += int(text_bytes[taken_documents:stop].sum())
            if self._tokens >= self._shard_tokens:
                self._finish_shard()
            elif self._pending_tokens >= self._batch_tokens:
                self._write_batch()
            taken_documents, taken_tokens = stop, end

    def close(self) -> tuple[ShardInfo, ...]:
        """Finish the last shard; returns all shards in order."""
        if self._documents:
            self._finish_shard()
        return tuple(self._done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            # On a full disk closing fails too, and must neither hide the first error nor keep the file.
            with suppress(OSError):
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    @property
    def _temporary(self) -> Path:
        return self._folder / self._split / f".shard-{len(self._done):05d}.arrow.part"

    def _write_batch(self) -> None:
        if self._writer is None:
            self._file = self._temporary.open("wb")
            self._writer = pa.ipc.new_file(self._file, self._schema)
        offsets = np.cumsum(np.concatenate([[0], *self._pending_lengths]), dtype=np.int32)
        columns = [np.concatenate(values) for values in (self._pending, self._pending_marks) if values]
        rows = [pa.ListArray.from_arrays(pa.array(offsets), pa.array(column)) for column in columns]
        self._writer.write_batch(pa.record_batch(rows, schema=self._schema))
        self._pending, self._pending_marks, self._pending_lengths, self._pending_tokens = [], [], [], 0

    def _finish_shard(self) -> None:
        if self._pending:
            self._write_batch()
        self._writer.close()
        self._file.close()
        name = f"{self._split}/shard-{len(self._done):05d}.arrow"
        temporary, final = self._temporary, self._folder / name
        self._writer = self._file = None
        digest, size = file_sha256(temporary), temporary.stat().st_size
        durable_rename(temporary, final)
        self._done.append(
            ShardInfo(
                file=name,
                documents=self._documents,
                tokens=self._tokens,
                text_bytes=self._text_bytes,
                sha256=digest,
                bytes=size,
            )
        )
        self._tokens = self._documents = self._text_bytes = 0
        self._on_finish(tuple(self._done))


class MappedShard:
    """Tokens of one shard as a few read-only arrays laid end to end; the file stays mapped while this lives."""

    def __init__(
        self,
        chunks: Sequence[Tokens],
        offsets: Sequence[Offsets] | None = None,
        marks: Sequence[Tokens] | None = None,
    ) -> None:
        """`offsets` has, for each chunk, where its documents begin and the last one ends; None where nothing says.

        `marks` has a mark for each token of each chunk, where the shard is of a packed set.
        """
        self._documents = None if offsets is None else tuple(zip(chunks, offsets, strict=True))
        self._marks = None if marks is None else [chunk for chunk in marks if len(chunk)]
        self._chunks = [chunk for chunk in chunks if len(chunk)]
        self._ends = np.cumsum([len(chunk) for chunk in self._chunks], dtype=np.int64)
        self.num_tokens = int(self._ends[-1]) if self._chunks else 0

    def copy_to(self, start: int, out: Tokens) -> None:
        """Fill `out` [m] with the tokens from `start` on, below their marks if any; they must lie inside this shard."""
        number = int(np.searchsorted(self._ends, start, side="right"))
        filled = 0
        while filled < len(out):
            chunk = self._chunks[number]
            offset = start + filled - (int(self._ends[number]) - len(chunk))
            part = chunk[offset : offset + len(out) - filled]
            if self._marks is not None:
                part = with_marks(part, self._marks[number][offset : offset + len(part)])
            out[filled : filled + len(part)] = part
            filled += len(part)
            number += 1

    def documents(self) -> Iterator[tuple[Tokens, Offsets]] | None:
        """A chunk at a time: its tokens, and where in them its documents begin and the last one ends [documents + 1].

        None where the file does not say. The tokens are not copied.
        """
        if self._documents is None:
            return None
        return ((chunk, offsets - offsets[0]) for chunk, offsets in self._documents)

    def head(self, count: int) -> Tokens:
        """A copy of the first `count` tokens, or of all where there are fewer, in their stored type."""
        parts = [
            chunk[: max(0, count - int(end) + len(chunk))] for chunk, end in zip(self._chunks, self._ends, strict=True)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint16)


def open_arrow_shard(path: Path, *, marked: bool = False) -> MappedShard:
    """Map an Arrow shard. Raises UserError where the file is no Arrow file, is damaged or lacks a column."""
    try:
        columns = _columns(path, "tokens")
        kinds = {str(column.type.value_type) for column in columns}
        if not kinds - {"uint16", "uint32"}:
            chunks, offsets = [_laid_end_to_end(column) for column in columns], [_offsets(c) for c in columns]
            return MappedShard(chunks, offsets, _marks(path, chunks) if marked else None)
    except (pa.ArrowException, KeyError, AttributeError, TypeError, ValueError, IndexError, OSError) as error:
        # Arrow raises OSError without a number for a file it cannot parse; one with a number is the system's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"{path} cannot be read as a shard: {next(iter(str(error).splitlines()), 'damaged')}",
            expected="an Arrow IPC file with the column `tokens` (list of uint16 or uint32)"
            + (" and as many `marks` (list of uint8)" if marked else ""),
            fix="copy the file again from where it was prepared, or delete it and prepare the data set again",
        ) from error
    raise UserError(
        f"{path} holds tokens of type {', '.join(sorted(kinds))}",
        expected="a list of uint16 or uint32",
        fix="prepare the data set again",
    )


def _marks(path: Path, chunks: Sequence[Tokens]) -> list[Tokens]:
    marks = [_laid_end_to_end(column) for column in _columns(path, "marks")]
    if [len(chunk) for chunk in marks] != [len(chunk) for chunk in chunks]:
        raise pa.ArrowInvalid("column `marks` is not as long as `tokens`")
    return marks


def _columns(path: Path, name: str) -> list[Any]:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    columns = [reader.get_batch(i).column(name) for i in range(reader.num_record_batches)]
    for column in columns:
        # Arrow itself trusts lengths and offsets, and would read outside of the mapping.
        column.validate()
    return columns


def _laid_end_to_end(column: Any) -> Tokens:
    """All tokens of a list column, without a copy.

    Not `column.flatten().to_numpy()`: that imports pandas where it is installed, a second of every worker's start.
    """
    values = column.values
    if column.null_count or values.null_count:
        raise pa.ArrowInvalid("a column has nulls")
    if not len(values):
        return np.empty(0, dtype=str(values.type))
    tokens = np.frombuffer(values.buffers()[1], dtype=str(values.type))[values.offset :]
    return tokens[column.offsets[0].as_py() : column.offsets[-1].as_py()]


def _offsets(column: Any) -> Offsets:
    """Where the lists of a column begin, and where the last ends, without a copy."""
    offsets = column.offsets
    if not len(column):
        return np.zeros(1, dtype=np.int64)
    return np.frombuffer(offsets.buffers()[1], dtype=str(offsets.type))[offsets.offset : offsets.offset + len(offsets)]


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complaint(item: Any) -> str:
    return f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
