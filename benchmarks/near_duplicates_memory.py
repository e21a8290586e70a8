"""Peak memory of the near-duplicate stage on made-up text, all processes added up. Started by near_duplicates.py.

    python -m benchmarks.near_duplicates_memory MEGABYTES

Two workers sketch parts of the input and link ranges of keys, one process joins clusters, as preparation does it. The
text is lines of the Python library in random order; every tenth document nearly repeats the one before. Prints one JSON
object. Imports no more than a worker of preparation needs, since all of it counts. Linux only: the kernel's own peaks.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainer.data.clean.near import BandWriter, NearDuplicates, band_keys, near_duplicates, signatures
from trainer.data.corpus import library_files

WORKERS = 2
DOCUMENT_LINES = 60
DOCUMENT_BYTES = 3000
PART_DOCUMENTS = 5000
BATCH_DOCUMENTS = 500
REPEATED_EVERY = 10


def main() -> None:
    megabytes = float(sys.argv[1])
    parts = max(WORKERS, round(megabytes * 1e6 / DOCUMENT_BYTES / PART_DOCUMENTS))
    os.environ["RAYON_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        num_bytes = sum(pool.map(write_part, [(Path(folder), part) for part in range(parts)]))
        dropped = near_duplicates(Path(folder), run=pool.map)
        workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
        assert len(workers) == WORKERS, f"{len(workers)} workers for {parts} parts"
        peak = sum([peak_megabytes(process) for process in (os.getpid(), *workers)])
    # Without what was planted the measurement would be of something else.
    planted = parts * PART_DOCUMENTS // REPEATED_EVERY
    assert planted * 0.9 < len(dropped) < planted * 1.1, f"{len(dropped)} found where {planted} were planted"
    print(json.dumps({"peak_megabytes": peak, "megabytes": num_bytes / 1e6, "duplicates": len(dropped)}))


def write_part(task: tuple[Path, int]) -> int:
    """Sketch the documents of a part; returns the bytes of their text."""
    folder, part = task
    settings = NearDuplicates()
    generator = random.Random(part)
    num_bytes = 0
    with BandWriter(folder, part) as writer:
        for start in range(0, PART_DOCUMENTS, BATCH_DOCUMENTS):
            texts = list(made_up(generator, BATCH_DOCUMENTS))
            num_bytes += sum(len(text.encode()) for text in texts)
            keys = band_keys(signatures(texts, settings), settings)
            writer.add(keys, part << 32 | np.arange(start, start + len(keys)))
    return num_bytes


def made_up(generator: random.Random, documents: int) -> Iterator[str]:
    """Texts that are unlike each other, but for every tenth, which has two words more than the one before."""
    text = ""
    for number in range(1, documents + 1):
        if number % REPEATED_EVERY == 0:
            yield f"{text} {generator.random()}"
        else:
            text = "\n".join(generator.choices(lines(), k=DOCUMENT_LINES))
            yield text


@lru_cache(maxsize=1)
def lines() -> list[str]:
    """Lines of the Python library, about 50 characters each."""
    found: list[str] = []
    for _, path in library_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [line for line in text.split("\n") if 40 < len(line) < 60]
        if len(found) > 20_000:
            break
    return found


def peak_megabytes(process: int) -> float:
    """Largest resident set of a process since it began, as the kernel keeps it."""
    status = Path(f"/proc/{process}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024 / 1e6


if __name__ == "__main__":
    main()
