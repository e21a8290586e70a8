"""What a teacher says of a data set, written beside it: its K largest logits at every position of every sample.

Written by `gpt-run data teach` and read by the loader of a distillation run with `distill.cache`. A folder belongs to
one teacher, split, sequence length and K, all of which its name hashes. Files appear whole and are never written twice:
`00000.logits`, then `00000.json` with its size and hash, and teacher.json once all are there, so that writing goes on
where it was stopped. On a local disk only: the logits are K times as many as the tokens, and are read in any order.

Shapes: n samples, T = sequence length, K = logits kept of each position.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.config import Source
from trainer.data.disk import sole_owner
from trainer.data.order import Int64
from trainer.data.remote import locate
from trainer.data.shards import file_sha256
from trainer.data.split import TokenSplit
from trainer.durable import write_atomically
from trainer.errors import UserError
from trainer.settings import joined_sha256

MARKER = "teacher.json"
FOLDER = "teacher"
_FORMAT = 1
_FILE_BYTES = 64 * 2**20

Entries = npt.NDArray[np.void]
"""Structured arrays [n, T, K]: `id` (uint16 or uint32) and `logit` (fp16, less the largest of its position)."""


@dataclass(frozen=True)
class CacheKey:
    """What the logits in a folder depend on."""

    teacher_sha256: str
    fingerprint: str
    """Of the split's tokens."""
    split: str
    sequence_length: int
    top_k: int
    within_documents: bool
    """Whether the teacher saw the document of each token only."""

    @property
    def name(self) -> str:
        """Of the folder."""
        return joined_sha256([str(_FORMAT), json.dumps(asdict(self), sort_keys=True)])[:16]


@dataclass(frozen=True)
class CacheFolder:
    """The logits of one split by one teacher, written or not."""

    path: Path
    key: CacheKey
    samples: int
    vocab_size: int

    @classmethod
    def beside(cls, source: Source, split: TokenSplit, key: CacheKey, vocab_size: int) -> CacheFolder:
        """In the folder of the data, or in that of its one file. UserError for data that is not on this machine."""
        location = locate(source.path)
        if location.local is None:
            raise UserError(
                f"distill.cache: {source.path} is not on a local disk",
                expected="data whose teacher's logits can be read in any order, K times as many as its tokens",
                fix="copy the data set to a disk or a mounted volume, or remove distill.cache",
            )
        own = location.local if location.local.is_dir() else location.local.parent
        return cls(own / FOLDER / key.name, key, split.num_samples, vocab_size)

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Of one logit and its token."""
        return np.dtype([("id", "<u2" if self.vocab_size <= 2**16 else "<u4"), ("logit", "<f2")])

    @property
    def file_samples(self) -> int:
        """Samples in each file but the last."""
        return max(1, _FILE_BYTES // (self.dtype.itemsize * self.key.sequence_length * self.key.top_k))

    @property
    def files(self) -> int:
        """How many there are when all is written."""
        return -(-self.samples // self.file_samples)

    def shape(self, number: int) -> tuple[int, int, int]:
        """[n, T, K] of one file."""
        rows = min(self.file_samples, self.samples - number * self.file_samples)
        return rows, self.key.sequence_length, self.key.top_k

    def file(self, number: int) -> Path:
        """Where a file is, or will be."""
        return self.path / f"{number:05d}.logits"

    def file_bytes(self, number: int) -> int:
        """Of one file."""
        return int(np.prod(self.shape(number))) * self.dtype.itemsize


def write_logits(folder: CacheFolder, teacher: dict[str, str], logits_of: Callable[[Int64], Entries]) -> Iterator[int]:
    """Write what is not yet written, file by file; yields the bytes of each, those that were there before first.

    logits_of: the entries [n, T, K] of samples [n]. teacher: what teacher.json says of it, for people.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with sole_owner(folder.path / ".lock", f"writes {folder.path}"):
        written = []
        for number in range(folder.files):
            note = folder.file(number).with_suffix(".json")
            if not note.is_file():
                first = number * folder.file_samples
                entries = logits_of(np.arange(first, first + folder.shape(number)[0]))
                assert entries.shape == folder.shape(number)
                assert entries.dtype == folder.dtype
                write_atomically(folder.file(number), entries.tobytes())
                found = {"bytes": entries.nbytes, "sha256": file_sha256(folder.file(number))}
                write_atomically(note, json.dumps(found).encode() + b"\n")
            written.append({"file": folder.file(number).name, **json.loads(note.read_bytes())})
            yield folder.file_bytes(number)
        if not (folder.path / MARKER).is_file():
            content = {"format": _FORMAT, "teacher": teacher, **asdict(folder.key), "samples": folder.samples}
            write_atomically(folder.path / MARKER, json.dumps({**content, "files": written}, indent=1).encode() + b"\n")


def read_entries(readers: Sequence[LogitsReader], ids: Int64) -> Entries:
    """Entries [n, T, K] of rows (source, sample) [n, 2], from the reader of each source."""
    parts = [reader.read(ids[ids[:, 0] == number, 1]) for number, reader in enumerate(readers)]
    # Back from the order of sources to that of rows; the widest of the sources' types of ids.
    return np.concatenate(parts)[np.argsort(np.argsort(ids[:, 0], kind="stable"), kind="stable")]


class LogitsReader:
    """Reads the logits of samples from a folder that is complete; safe to use from several threads."""

    def __init__(self, folder: CacheFolder) -> None:
        """UserError where the folder is not complete, or a file is not as it was written. Files are hashed when they
        are first read.
        """
        self._folder = folder
        marker = folder.path / MARKER
        if not marker.is_file():
            raise UserError(
                f"distill.cache: {marker} is not there",
                expected="the logits of this teacher for this data, sequence_length and top_k, written to the end",
                fix="write them with `gpt-run data teach RUN.yaml`; it goes on where it was stopped",
            )
        self._files: list[dict[str, Any]] = json.loads(marker.read_bytes())["files"]
        self._mapped: dict[int, Entries] = {}

    def read(self, samples: Int64) -> Entries:
        """Entries [n, T, K] of samples [n]."""
        folder = self._folder
        out = np.empty((len(samples), folder.key.sequence_length, folder.key.top_k), folder.dtype)
        for row, sample in enumerate(samples.tolist()):
            number, place = divmod(sample, folder.file_samples)
            out[row] = self._file(number)[place]
        return out

    def _file(self, number: int) -> Entries:
        mapped = self._mapped.get(number)
        if mapped is None:
            path, expected = self._folder.file(number), self._files[number]
            if not path.is_file() or file_sha256(path) != expected["sha256"]:
                raise UserError(
                    f"{path} is missing or damaged",
                    expected=f"{expected['bytes']} bytes with sha256 {expected['sha256']}",
                    fix=f"remove the folder {path.parent} and write it again with `gpt-run data teach`",
                )
            mapped = np.memmap(path, self._folder.dtype, "r", shape=self._folder.shape(number))
            self._mapped[number] = mapped
        return mapped
