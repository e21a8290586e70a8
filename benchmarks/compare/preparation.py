"""Data preparation: JSON lines to tokens on disk, against datatrove."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.compare.measurement import OURS, Measurement, Part, Report
from benchmarks.whole_pipeline import BAR_RATIO, MB
from benchmarks.whole_pipeline import compare as compare_pipelines

MEGABYTES = 15.0
ROUNDS = 3
NAMES = {"ours": OURS, "datatrove": "datatrove"}


def measure(quick: bool) -> Report:
    """As `benchmarks.whole_pipeline` does it."""
    with tempfile.TemporaryDirectory() as folder:
        found = compare_pipelines(Path(folder), (2.0 if quick else MEGABYTES) * MB, 1 if quick else ROUNDS)
    rates = {
        NAMES[side]: [found["megabytes"] / seconds for seconds in spent] for side, spent in found["seconds"].items()
    }
    return Report([Measurement("text to tokens", "MB/s of one core", True, rates, bar=BAR_RATIO)])


PART = Part(
    title="Data preparation",
    settings="JSON lines through the rules of Gopher and C4, MinHash of 14 bands of 8 and a tokenizer of 50,257 ids, "
    "with the same thresholds and in as many processes as there are cores; processor seconds of all of them. "
    "Ours also looks for exact duplicates and ends with hashed shards.",
    measure=measure,
)
