"""`gpt-run data prepare` of 3 MB of the Python library's text: cleaning, a tokenizer, shards; all in one process."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from itertools import count
from pathlib import Path

from benchmarks.profiles.table import Profile, profile
from trainer.data.prepare.engine import Processes
from trainer.data.prepare.pipeline import load_pipeline
from trainer.data.prepare.run import prepare

SETTINGS = ["sources.0.max_bytes=3000000", "tokenizer.sample_bytes=500000"]


def measure() -> Profile:
    """One preparation into an empty folder."""
    # As in the workers of a preparation.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    numbers = count()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):

        def whole() -> None:
            prepare(load_pipeline("python-library", SETTINGS), Path(folder, str(next(numbers))), engine=Processes(1))

        return profile("a preparation of 3 MB", whole, repeats=2)
