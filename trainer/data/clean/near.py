"""Near duplicates: MinHash signatures, cut into bands; documents that share a band belong to one cluster.

Workers call `signatures` and `band_keys` and write the keys with a `BandWriter`, one per part of the input; then
`near_duplicates` joins documents that share a key into clusters and names all but the first document of each. Which
documents these are depends on texts and settings alone: not on parts, batches or the number of workers. Document
numbers are the caller's, see `exact`. Memory does not grow with the number of documents, but for about 40 bytes per
document that has a near duplicate. docs/decisions/near-duplicates.md gives the alternatives and their figures.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from trainer.data.clean.runs import LINK_MEMORY_BYTES, Mapper, RunWriter, Words, find_links, kept_result
from trainer.data.clean.shingles import mixed, shingles
from trainer.extras import needs
from trainer.settings import Settings

# The key of a document without words, which is like no other.
NO_KEY = 0
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class NearDuplicates(Settings):
    """What counts as a near duplicate: two documents whose signatures agree in all rows of at least one band.

    The similarity of two documents is the Jaccard index of their sets of shingles. Sources: Broder 1997, On the
    Resemblance and Containment of Documents; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4. The
    defaults, 5 words and 14 bands of 8, are those of FineWeb (Penedo et al. 2024).
    """

    ngram_words: int = Field(default=5, ge=1, le=100)
    """Words of a shingle. More make the comparison stricter."""
    bands: int = Field(default=14, ge=1, le=1024)
    """Bands of a signature. More find less similar pairs."""
    rows_per_band: int = Field(default=8, ge=1, le=64)
    """Hashes of a band. More leave out less similar pairs."""
    seed: int = Field(default=1, ge=0, lt=1 << 32)
    """Seed of the hashes."""

    @property
    def permutations(self) -> int:
        """Hashes of a signature."""
        return self.bands * self.rows_per_band

    def probability(self, similarity: float) -> float:
        """With which two documents of this similarity are found: 1 - (1 - s**rows)**bands."""
        return float(1 - (1 - similarity**self.rows_per_band) ** self.bands)

    def method(self) -> str:
        """What besides these settings decides the result: the algorithm and its version."""
        return f"rensa R-MinHash {_rensa().RMinHash.ALGORITHM_VERSION}"


def signatures(texts: Sequence[str], settings: NearDuplicates) -> npt.NDArray[np.uint32]:
    """uint32 [n, permutations]: MinHash of each text's shingles; all ones where a text has no words.

    Raises UserError where rensa is not installed.
    """
    if not texts:
        return np.empty((0, settings.permutations), dtype=np.uint32)
    hashes, offsets = shingles(texts, settings.ngram_words)
    matrix = _rensa().RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets, num_perm=settings.permutations, seed=settings.seed
    )
    return np.array(matrix.to_rows(), dtype=np.uint32)


def band_keys(signatures: npt.NDArray[np.uint32], settings: NearDuplicates) -> Words:
    """uint64 [n, bands]: a hash of each band's rows and number; NO_KEY for documents without words."""
    rows = signatures.reshape(len(signatures), settings.bands, settings.rows_per_band).astype(np.uint64)
    # The number of the band is part of the key, so that all bands are sorted as one.
    keys = np.broadcast_to(mixed(np.arange(1, settings.bands + 1, dtype=np.uint64)), rows.shape[:2]).copy()
    for row in range(settings.rows_per_band):
        keys *= _SPREAD
        keys += rows[:, :, row]
    mixed(keys)
    keys[keys == NO_KEY] = 1
    keys[(signatures == np.iinfo(np.uint32).max).all(axis=1)] = NO_KEY
    return keys


class BandWriter:
    """Writes the keys of one part; the part counts as finished when the context is left without an error."""

    def __init__(self, folder: Path, part: int) -> None:
        self._runs = RunWriter(folder, part, words=1)

    def add(self, keys: Words, documents: npt.ArrayLike) -> None:
        """Add uint64 [n, bands] keys of the documents [n]."""
        numbers = np.repeat(np.asarray(documents, dtype=np.uint64), keys.shape[1])
        flat = keys.ravel()
        self._runs.add(np.vstack([flat, numbers])[:, flat != NO_KEY])

    def __enter__(self) -> BandWriter:
        self._runs.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._runs.__exit__(*error)


def near_duplicates(folder: Path, *, memory_bytes: int = LINK_MEMORY_BYTES, run: Mapper = map) -> Words:
    """Sorted numbers of the documents to leave out: all but the first of each cluster; needs all parts finished.

    `run` maps a picklable function over tasks: `map`, or the `map` of a process pool; each task takes `memory_bytes` at
    most. The result is kept in `folder`, and what an interrupted call finished is used again.
    """

    def find() -> Words:
        return later_in_clusters(find_links(folder, words=1, memory_bytes=memory_bytes, run=run))

    return kept_result(folder, find)


def later_in_clusters(links: Sequence[Path]) -> Words:
    """Sorted documents that a chain of links, read from .npy files [2, m], connects with an earlier one."""
    documents = _linked_documents(links)
    # A forest over the places in `documents`: a place points at an earlier one of its cluster, or at itself.
    parents = np.arange(len(documents))
    for path in links:
        _join(parents, np.searchsorted(documents, np.load(path)))
    later: Words = documents[parents != np.arange(len(documents))]
    return later


def _linked_documents(links: Sequence[Path]) -> Words:
    """All documents in links, sorted, each once."""
    documents = np.empty(0, dtype=np.uint64)
    pending: list[Words] = []
    for path in [*links, None]:
        if path is not None:
            pending.append(np.unique(np.load(path)))
        # Merging when as much has come as is there keeps the work near-linear.
        if path is None or sum(map(len, pending)) >= max(len(documents), 1 << 20):
            documents = np.unique(np.concatenate([documents, *pending]))
            pending = []
    return documents


def _join(parents: npt.NDArray[np.intp], links: npt.NDArray[np.intp]) -> None:
    """Join the clusters at the ends of links [2, m]; the root of a cluster is always its earliest document."""
    while links.shape[1]:
        links = _roots(parents, links)
        links = links[:, links[0] != links[1]]
        # A root that several links would move goes to the earliest; the next round joins the others.
        np.minimum.at(parents, links.max(axis=0), links.min(axis=0))


def _roots(parents: npt.NDArray[np.intp], places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The roots of `places`; halves the paths to them on the way."""
    while True:
        above = parents[parents[places]]
        if (above == places).all():
            return places
        parents[places] = above
        places = above


def _rensa() -> Any:
    with needs("data", "the search for near duplicates"):
        return importlib.import_module("rensa")
