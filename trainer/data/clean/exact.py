"""Exact duplicates: 128-bit digests of texts, sorted on disk; the first document of each text stays.

Workers call `digests` and write them with a `DigestWriter`, one per part of the input; then `exact_duplicates` names
the documents to leave out. Document numbers are the caller's: any 64-bit numbers whose order is the order of the
documents, such as part * 2**32 + place in the part. Memory does not grow with the number of documents, but for the
result: 8 bytes per duplicate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.data.clean.runs import LINK_MEMORY_BYTES, Mapper, RunWriter, Words, find_links, kept_result

_WORDS = 2


def digests(texts: Sequence[str]) -> Words:
    """uint64 [n, 2]: 128 bits of each text's BLAKE2b. Two of 10**12 different texts agree with probability 1e-15."""
    joined = b"".join(hashlib.blake2b(_bytes(text), digest_size=8 * _WORDS).digest() for text in texts)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64).reshape(len(texts), _WORDS)


class DigestWriter:
    """Writes the digests of one part; the part counts as finished when the context is left without an error."""

    def __init__(self, folder: Path, part: int) -> None:
        self._runs = RunWriter(folder, part, words=_WORDS)

    def add(self, digests: Words, documents: npt.ArrayLike) -> None:
        """Add uint64 [n, 2] digests of the documents [n]."""
        self._runs.add(np.vstack([digests.T, np.asarray(documents, dtype=np.uint64)]))

    def __enter__(self) -> DigestWriter:
        self._runs.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._runs.__exit__(*error)


def exact_duplicates(folder: Path, *, run: Mapper = map) -> Words:
    """Sorted numbers of the documents whose text an earlier document has; needs all parts finished.

    `run` maps a picklable function over tasks: `map`, or the `map` of a process pool. The result is kept in `folder`,
    and what an interrupted call finished is used again.
    """

    def find() -> Words:
        links = find_links(folder, words=_WORDS, memory_bytes=LINK_MEMORY_BYTES, run=run)
        # A document is the later end of one link at most: within its run, or of its run's first to that of all runs.
        return np.sort(np.concatenate([np.empty(0, dtype=np.uint64), *(np.load(path)[0] for path in links)]))

    return kept_result(folder, find)


def _bytes(text: str) -> bytes:
    # JSON can carry lone surrogates, which strict UTF-8 refuses.
    return text.encode("utf-8", "surrogatepass")
