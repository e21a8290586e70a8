"""What trackers cost: steps per second with TensorBoard, Weights & Biases and histograms on, and without, in one run.

    python -m benchmarks.trackers [--rounds N] [--json]

One process trains; blocks of 250 steps alternate between lines to no tracker and lines, a line every 10 steps and
histograms once a block, to TensorBoard's files and to wandb in offline mode, which have their threads and processes on
the same cores. The ratio is taken per round; the median is reported. Bar: at least 0.99. What one set of samples takes
is given in seconds: how often they are written is the user's choice.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import hardware, median_ratio, write_random_tokens
from benchmarks.product import Product
from trainer.data.tokenizer import train_bpe
from trainer.evaluate.config import SamplesConfig
from trainer.evaluate.samples import Sampler
from trainer.metrics.trackers.config import TensorBoardConfig, TrackerConfig, WandbConfig
from trainer.metrics.trackers.start import start_trackers
from trainer.train.histograms import Histograms
from trainer.train.step import Flags, train_step

BAR = 0.99
BLOCK_STEPS = 250
LOG_EVERY_STEPS = 10
VOCABULARY = 4096
TRACKERS: tuple[TrackerConfig, ...] = (TensorBoardConfig(), WandbConfig(mode="offline"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="pairs of blocks (default 9)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), rounds=arguments.rounds)
    line = (
        f"{result['steps_per_second']:.1f} steps/s with trackers against {result['steps_per_second_without']:.1f}: "
        f"ratio {result['ratio']:.4f} (bar {BAR}); histograms {result['histograms_seconds'] * 1e3:.1f} ms, "
        f"samples {result['samples_seconds'] * 1e3:.0f} ms, a step {1e3 / result['steps_per_second_without']:.1f} ms"
    )
    print(json.dumps(result) if arguments.json else line)


def measure(folder: Path, *, rounds: int) -> dict[str, Any]:
    """Train in `folder`, in turns with and without."""
    tracked = Tracked(folder)
    tracked.block(trackers=True)  # wandb is imported, caches are warm
    blocks = [(tracked.block(trackers=True), tracked.block(trackers=False)) for _ in range(rounds)]
    samples_seconds = median(tracked.samples_seconds() for _ in range(3))
    tracked.close()
    with_seconds, without_seconds = zip(*blocks, strict=True)
    return {
        "bar_ratio": BAR,
        "ratio": median_ratio(without_seconds, with_seconds),
        "steps_per_second": BLOCK_STEPS / median(with_seconds),
        "steps_per_second_without": BLOCK_STEPS / median(without_seconds),
        "histograms_seconds": median(tracked.histograms_seconds),
        "samples_seconds": samples_seconds,
        "rounds": rounds,
        "hardware": hardware(),
    }


class Tracked(Product):
    """A run at world size 1 whose lines go to trackers, or nowhere."""

    def __init__(self, folder: Path) -> None:
        data = folder / "tokens.bin"
        write_random_tokens(data, vocab_size=VOCABULARY, tokens=1_000_000)
        model = {"family": "gpt2", "vocab_size": VOCABULARY, "context": 128, "layers": 4, "width": 96, "heads": 3}
        super().__init__(
            {
                "name": "trackers",
                "model": model,
                "sequence_length": 128,
                "batch": {"sequences": 8, "micro_sequences": 8},
                "data": {"train": str(data)},
                "checkpoint": {"store": str(folder / "runs")},
            }
        )
        settings = self.live.config.model_dump(mode="json")
        self._trackers = start_trackers(TRACKERS, self.live.store, "a0001", first_step=1, settings=settings)
        tokenizer = train_bpe(["the quick brown fox jumps over the lazy dog"], 300)
        config = SamplesConfig(prompts=("the fox", "a dog", "over"), max_tokens=64)
        self._sampler = Sampler(config, tokenizer, end_id=0, context=128, vocab_size=VOCABULARY)
        self.histograms_seconds: list[float] = []

    def block(self, *, trackers: bool) -> float:
        """Seconds for a block of steps."""
        run = self.live
        started = time.perf_counter()
        for number in range(1, BLOCK_STEPS + 1):
            histograms = Histograms(run.step.model, run.config.model.layers) if trackers and number == 5 else None
            batch = next(run.loader)
            before_update = partial(self._take, histograms) if histograms else None
            result = train_step(run.step, batch.tokens, Flags, before_update=before_update)
            run.progress.step += 1
            head = {"time": "2026-01-01T00:00:00.000+00:00", "step": run.progress.step}
            if histograms is not None:
                self._trackers.write("histograms", {**head, **(histograms.record() or {})})
            if trackers and number % LOG_EVERY_STEPS == 0:
                figures = {"loss": result.loss, "grad_norm": result.grad_norm, "lr": 0.1}
                self._trackers.write("training", {**head, **figures})
        return time.perf_counter() - started

    def samples_seconds(self) -> float:
        """Seconds for three prompts of 64 tokens."""
        started = time.perf_counter()
        self._sampler.texts(self.live.step.model, torch.device("cpu"), lambda: None)
        return time.perf_counter() - started

    def close(self) -> None:
        """Trackers first, as the train loop does."""
        self._trackers.close()
        super().close()

    def _take(self, histograms: Histograms) -> None:
        started = time.perf_counter()
        histograms.take()
        self.histograms_seconds.append(time.perf_counter() - started)


if __name__ == "__main__":
    main()
