"""The near-duplicate stage against datasketch's MinHashLSH: documents per second, recall and precision; peak memory.

    python -m benchmarks.near_duplicates [--documents 4000] [--rounds 5] [--megabytes 200] [--json]

Speed and quality: passages of the Python library, and one copy of each with up to 6 of 100 words replaced, in random
order. Every round both sides do all of the stage on one core, from texts to the list of documents to leave out, one
after the other, with another seed: ours with files on disk, theirs in memory, as its manual shows, once with its own
SHA-1 and once with CRC-32, which is faster. Recall and precision are of that list against the clusters that exact
Jaccard indices of SIMILARITY and more make. Memory: the stage in two worker processes and one that joins, on
--megabytes of text and on ten times as much, the peaks of all processes added up (near_duplicates_memory.py).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasketch import MinHash, MinHashLSH
from scipy.sparse import csr_matrix

from benchmarks.common import hardware, median_ratio
from trainer.data.clean.near import (
    BandWriter,
    NearDuplicates,
    band_keys,
    later_in_clusters,
    near_duplicates,
    signatures,
)
from trainer.data.corpus import library_files

BAR_RATIO = 10.0
BAR_DIFFERENCE = 0.01
BAR_MEMORY_RATIO = 1.2
SIMILARITY = 0.7
PASSAGE_CHARACTERS = 3000
MOST_EDITED = 0.06
BATCH_DOCUMENTS = 500
# Words as our side takes them, as far as ASCII goes.
WORD = re.compile(r"[^\W_]+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=4000, help="passages; as many copies are added")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--megabytes", type=int, default=200, help="smaller input of the two for memory")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    # One core for each side; has to be said before rensa starts its threads.
    os.environ["RAYON_NUM_THREADS"] = "1"
    report = {
        "hardware": hardware(),
        "bar_ratio": BAR_RATIO,
        "bar_difference": BAR_DIFFERENCE,
        "bar_memory_ratio": BAR_MEMORY_RATIO,
        "similarity": SIMILARITY,
        **compare(options.documents, options.rounds),
        **measure_memory(options.megabytes),
    }
    if options.json:
        print(json.dumps(report))
        return
    for name in SIDES:
        print(
            f"{name}: {report['documents_per_second'][name]:,.0f} documents/s, "
            f"recall {report['recall'][name]:.4f}, precision {report['precision'][name]:.4f}"
        )
    ratios = ", ".join(f"{ratio:.1f} of {name}" for name, ratio in report["ratio"].items())
    print(f"ours: {ratios} (bar {BAR_RATIO:g}); {report['megabytes_per_second']:.0f} MB/s")
    for megabytes, peak in report["peak_megabytes"].items():
        print(f"{megabytes} MB of text: at most {peak:.0f} MB of memory")
    print(f"ratio {report['memory_ratio']:.2f} (bar {BAR_MEMORY_RATIO})")


# Speed and quality ----------------------------------------------------------------------------------------------------


def compare(documents: int, rounds: int) -> dict[str, Any]:
    """All sides in turn, in rounds that begin with another side; medians of times, means of recall and precision."""
    texts = planted(documents)
    shingles = [shingles_of(text) for text in texts]
    expected = set(later(jaccard_pairs(shingles)))
    del shingles
    SIDES["ours"](texts[:BATCH_DOCUMENTS], NearDuplicates())
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    recall: dict[str, list[float]] = {name: [] for name in SIDES}
    precision: dict[str, list[float]] = {name: [] for name in SIDES}
    names = list(SIDES)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            started = time.perf_counter()
            found = set(SIDES[name](texts, NearDuplicates(seed=number + 1)))
            seconds[name].append(time.perf_counter() - started)
            recall[name].append(len(found & expected) / len(expected))
            precision[name].append(len(found & expected) / len(found))
        print(f"round {number + 1}: {', '.join(f'{n} {s[-1]:.2f} s' for n, s in seconds.items())}", file=sys.stderr)
    num_bytes = sum(len(text.encode()) for text in texts)
    return {
        "documents": len(texts),
        "documents_per_second": {name: len(texts) / statistics.median(times) for name, times in seconds.items()},
        "megabytes_per_second": num_bytes / 1e6 / statistics.median(seconds["ours"]),
        "ratio": {name: median_ratio(seconds[name], seconds["ours"]) for name in names if name != "ours"},
        "recall": {name: statistics.mean(values) for name, values in recall.items()},
        "precision": {name: statistics.mean(values) for name, values in precision.items()},
        "seconds": seconds,
    }


def planted(documents: int) -> list[str]:
    """Passages of real text and an edited copy of each, in an order of their own."""
    generator = random.Random(1)
    passages = []
    for text in library():
        passages += [text[start : start + PASSAGE_CHARACTERS] for start in range(0, len(text), PASSAGE_CHARACTERS)]
        if len(passages) >= documents:
            break
    texts = passages[:documents]
    texts += [edited(text, generator.uniform(0, MOST_EDITED), generator) for text in texts]
    generator.shuffle(texts)
    return texts


def library() -> Iterator[str]:
    """Texts of the Python library."""
    for _, path in library_files():
        yield path.read_text(encoding="utf-8", errors="replace")


def edited(text: str, share: float, generator: random.Random) -> str:
    """The text with a share of its words replaced."""
    pieces = re.split(r"(\w+)", text)
    words = range(1, len(pieces), 2)
    for place in generator.sample(words, round(share * len(words))):
        pieces[place] = f"word{generator.randrange(10**9)}"
    return "".join(pieces)


def shingles_of(text: str) -> set[bytes]:
    """Every five words, as a user of datasketch writes it."""
    words = WORD.findall(text.lower())
    size = NearDuplicates().ngram_words
    return {" ".join(words[start : start + size]).encode() for start in range(max(len(words) - size + 1, 1))}


def jaccard_pairs(shingles: Sequence[set[bytes]]) -> Iterator[tuple[int, int]]:
    """Pairs of documents whose exact Jaccard index is SIMILARITY or more."""
    numbers: dict[bytes, int] = {}
    columns = [[numbers.setdefault(shingle, len(numbers)) for shingle in each] for each in shingles]
    sizes = np.array([len(each) for each in columns])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    ones = np.ones(offsets[-1], dtype=np.int32)
    matrix = csr_matrix((ones, np.concatenate(columns), offsets), shape=(len(columns), len(numbers)))
    common = (matrix @ matrix.T).tocoo()
    union = sizes[common.row] + sizes[common.col] - common.data
    similar = (common.row > common.col) & (common.data >= SIMILARITY * union)
    yield from zip(common.row[similar].tolist(), common.col[similar].tolist(), strict=True)


def later(pairs: Iterator[tuple[int, int]]) -> list[int]:
    """All but the first document of each cluster that pairs make."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "links.npy"
        np.save(path, np.array(list(pairs), dtype=np.uint64).reshape(-1, 2).T)
        return list(later_in_clusters([path]).tolist())


def ours(texts: Sequence[str], settings: NearDuplicates) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        with BandWriter(Path(folder), 0) as writer:
            for start in range(0, len(texts), BATCH_DOCUMENTS):
                keys = band_keys(signatures(texts[start : start + BATCH_DOCUMENTS], settings), settings)
                writer.add(keys, np.arange(start, start + len(keys)))
        return list(near_duplicates(Path(folder)).tolist())


def datasketch_with(**hashing: Any) -> Callable[[Sequence[str], NearDuplicates], list[int]]:
    def run(texts: Sequence[str], settings: NearDuplicates) -> list[int]:
        index = MinHashLSH(num_perm=settings.permutations, params=(settings.bands, settings.rows_per_band))
        sets = (shingles_of(text) for text in texts)
        sketches = MinHash.generator(sets, num_perm=settings.permutations, seed=settings.seed, **hashing)
        pairs = []
        for number, sketch in enumerate(sketches):
            pairs += [(number, other) for other in index.query(sketch)]
            index.insert(number, sketch, check_duplication=False)
        return later(iter(pairs))

    return run


SIDES = {
    "ours": ours,
    "datasketch": datasketch_with(),
    "datasketch with CRC-32": datasketch_with(hashfunc=zlib.crc32),
}


# Memory ---------------------------------------------------------------------------------------------------------------


def measure_memory(megabytes: int) -> dict[str, Any]:
    """Peaks of the stage on two sizes of input, each in processes of its own."""
    peaks = {}
    for size in (megabytes, 10 * megabytes):
        command = [sys.executable, "-m", "benchmarks.near_duplicates_memory", str(size)]
        peaks[size] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["peak_megabytes"]
        print(f"{size} MB of text: {peaks[size]:.0f} MB of memory", file=sys.stderr)
    return {"peak_megabytes": peaks, "memory_ratio": peaks[10 * megabytes] / peaks[megabytes]}


if __name__ == "__main__":
    main()
