"""Instruction tuning on packed rows against padded batches: useful tokens a second of one process, both in one run.

    python -m benchmarks.sft_packing [--json]

The conversations are questions about the Python library with its docstrings as answers, so the lengths are those of
real text. Packed: rows that `gpt-run data prepare` filled, by the product's step. Padded: the same conversations in
batches of as many rows, each padded to its longest conversation, by a plain loop that needs no mask. Useful tokens are
those of conversations, their questions included. Exits with 1 below the bar.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.common import hardware, median_ratio
from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import TokenSplit, open_tokens
from trainer.data.loader import BatchLoader
from trainer.data.marks import CONTEXT, FIRST, ids_of, marks_of
from trainer.data.prepare import Pipeline, prepare
from trainer.data.prepare.pipeline import ChatPipeline
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.init import initialise
from trainer.model.loss import IGNORED_TARGET
from trainer.parallel.config import ParallelConfig
from trainer.train.config import AdamWConfig
from trainer.train.optimizer import build_optimizers
from trainer.train.step import Flags, StepContext, train_step

BAR = 1.5
LENGTH, ROWS, STEPS, ROUNDS = 512, 8, 6, 5
MODEL = GPT2Config(vocab_size=8192, context=LENGTH, layers=4, width=128, heads=4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(prepared(Path(folder)))
    if options.json:
        print(json.dumps(report))
    else:
        print(
            f"{hardware()['cpu']}: packed {report['packed_tokens_per_second']:,.0f} useful tokens/s, padded "
            f"{report['padded_tokens_per_second']:,.0f}: {report['ratio']:.2f} times (bar {BAR}); "
            f"{report['packed_padding_ratio']:.1%} and {report['padded_padding_ratio']:.1%} of the tokens are padding"
        )
    return 0 if report["ratio"] >= BAR else 1


def prepared(folder: Path) -> TokenSplit:
    """The training split of packed conversations."""
    library = {
        "name": "library",
        "output": "-",
        "sources": [{"type": "python-library", "max_bytes": 4_000_000}],
        "tokenizer": {"type": "bpe", "vocab_size": MODEL.vocab_size, "sample_bytes": 4_000_000},
    }
    prepare(Pipeline.model_validate(library), folder / "library")
    questions = {
        "name": "questions",
        "output": "-",
        "sources": [{"type": "python-questions", "max_files": 300}],
        "tokenizer": {"type": "file", "path": str(folder / "library")},
        "chat": {"template": "plain", "sequence_length": LENGTH},
    }
    prepare(ChatPipeline.model_validate(questions), folder / "questions")
    source = Source(path=str(folder / "questions"))
    return open_tokens(source, split="train", sequence_length=LENGTH, cache=CacheConfig())


def measure(split: TokenSplit) -> dict[str, Any]:
    """Useful tokens a second of both sides, in turns."""
    sides: dict[str, Packed | Padded] = {"packed": Packed(split), "padded": Padded(conversations(split))}
    for side in sides.values():
        side.step()  # the optimizer's state
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(ROUNDS):
        for name in list(sides) if number % 2 else reversed(sides):
            side = sides[name]
            useful, started = side.useful_tokens, time.perf_counter()
            for _ in range(STEPS):
                side.step()
            speeds[name].append((side.useful_tokens - useful) / (time.perf_counter() - started))
    return {
        "packed_tokens_per_second": median(speeds["packed"]),
        "padded_tokens_per_second": median(speeds["padded"]),
        "ratio": median_ratio(speeds["packed"], speeds["padded"]),
        "bar_ratio": BAR,
        **{f"{name}_padding_ratio": 1 - side.useful_tokens / side.tokens for name, side in sides.items()},
        "sequence_length": LENGTH,
    }


def conversations(split: TokenSplit) -> list[np.ndarray]:
    """The rows' samples [n] again, one by one, their marks above them."""
    rows = np.empty((split.num_samples, LENGTH + 1), dtype=np.int64)
    split.read(np.arange(split.num_samples), rows)
    samples = [part for row in rows for part in np.split(row, np.flatnonzero(marks_of(row) & FIRST)[1:])]
    return [sample for sample in samples if (marks_of(sample) & CONTEXT == 0).any()]


class Packed:
    """The product's step on the product's batches."""

    def __init__(self, split: TokenSplit) -> None:
        self.useful_tokens = self.tokens = 0
        self._batches = BatchLoader([split], batch_sequences=ROWS, sequence_length=LENGTH, seed=1, workers=0)
        model = built()
        self._context = StepContext(
            model=model,
            optimizers=build_optimizers(model, AdamWConfig(lr=1e-3)),
            parallel=ParallelConfig(),
            device=torch.device("cpu"),
            world_size=1,
            batch_sequences=ROWS,
            micro_sequences=ROWS,
            clip_norm=1.0,
            scaler=None,
            packed=True,
        )

    def step(self) -> None:
        rows = next(self._batches).tokens
        train_step(self._context, rows, Flags)
        self.tokens += rows.size
        # Padding is the last sample of a row, and the only one without an answer.
        for row in rows:
            parts = np.split(row, np.flatnonzero(marks_of(row) & FIRST)[1:])
            self.useful_tokens += sum(len(part) for part in parts if (marks_of(part) & CONTEXT == 0).any())


class Padded:
    """What people write without packing: as many conversations as rows, padded to the longest of them."""

    def __init__(self, samples: list[np.ndarray]) -> None:
        self.useful_tokens = self.tokens = 0
        random.Random(1).shuffle(samples)
        self._samples: Iterator[np.ndarray] = itertools.cycle(samples)
        self._model = built()
        self._optimizers = build_optimizers(self._model, AdamWConfig(lr=1e-3))

    def step(self) -> None:
        samples = list(itertools.islice(self._samples, ROWS))
        longest = max(len(sample) for sample in samples)
        rows = torch.zeros(ROWS, longest, dtype=torch.int64)
        targets = torch.full((ROWS, longest), IGNORED_TARGET)
        for place, sample in enumerate(samples):
            rows[place, : len(sample)] = torch.from_numpy(ids_of(sample))
            answers = np.where(marks_of(sample) & CONTEXT == 0, ids_of(sample), IGNORED_TARGET)
            targets[place, : len(sample)] = torch.from_numpy(answers)
        loss = self._model(rows[:, :-1], targets[:, 1:])
        (loss / (targets[:, 1:] != IGNORED_TARGET).sum()).backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizers.step()
        self._optimizers.zero_grad()
        self.tokens += rows.numel()
        self.useful_tokens += sum(len(sample) for sample in samples)


def built() -> Decoder:
    model = Decoder(MODEL)
    initialise(model, 1)
    return model


if __name__ == "__main__":
    sys.exit(main())
